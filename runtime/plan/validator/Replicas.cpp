//===- Replicas.cpp - What all ranks of an axis hold alike --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// For each byte the axes of the mesh along which it may vary: what steps write varies along the axes along which
// anything they read does. Scattering, exchanging, taking a part and making a value partial adds the axes of the group,
// reducing and gathering takes them away: all ranks of the group then have the same. A program starts with inputs and
// states as their layouts say, and must leave parameters and moments so. By induction over programs no copy of a
// parameter drifts away from the others, whatever kernels compute.
//
// Sums for the log are not looked at: a kernel may compute one that all ranks share beside one that they do not, and
// what it makes of which operand no plan says.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Mesh.h"
#include "runtime/plan/validator/Checks.h"
#include "runtime/plan/validator/Segments.h"

#include <set>
#include <vector>

namespace moe::validator {
namespace {

/// A bit for each axis of the mesh.
using Axes = uint64_t;
constexpr int kMostAxes = 64;

struct Value {
  uint64_t end = 0; ///< of the segment that holds it
  Axes varies = 0;
  int writer = -1; ///< step
};

class Walk {
public:
  Walk(Context &context, int index) : context(context), plan(context.plan), index(index) {
    for (int axis = 0; axis < plan.mesh_size(); ++axis)
      if (plan.mesh(axis).size() > 1)
        every |= Axes{1} << axis;
    arenas.reserve(static_cast<size_t>(plan.arenas_size()));
    for (const plan::Arena &arena : plan.arenas())
      arenas.emplace_back(arena.bytes(), Value{0, every, -1});
  }

  void run() {
    const plan::Program &program = plan.programs(index);
    for (const plan::Metric &metric : plan.metrics())
      write(metric.slice(), 0);
    for (const plan::Input &input : plan.inputs())
      write(input.staging(), axesOf(input.axes()));
    // Bytes between the tensors of a bucket are read with it and are nobody's parameter: zeros when a run begins, and
    // whatever they become stays among themselves, since buckets are updated element by element.
    for (const plan::StateTensor &tensor : plan.state())
      if (isHeldAlike(tensor))
        write(bufferOf(tensor), 0);
    for (const plan::StateTensor &tensor : plan.state())
      write(tensor.slice(), axesOf(tensor));
    for (int i = 0; i < program.steps_size(); ++i)
      step(program.steps(i), i);
    for (const plan::StateTensor &tensor : plan.state())
      if (isHeldAlike(tensor))
        expect(tensor);
  }

private:
  static bool isHeldAlike(const plan::StateTensor &tensor) {
    return tensor.kind() == plan::StateTensor::PARAMETER || tensor.kind() == plan::StateTensor::MOMENT;
  }

  plan::Slice bufferOf(const plan::StateTensor &tensor) const {
    plan::Slice all;
    all.set_buffer(tensor.slice().buffer());
    all.set_bytes(plan.buffers(static_cast<int>(tensor.slice().buffer())).bytes());
    return all;
  }

  static Axes axesOf(const AxisList &axes) {
    Axes all = 0;
    for (uint32_t axis : axes)
      all |= Axes{1} << axis;
    return all;
  }
  static Axes axesOf(const LayoutList &layout) {
    Axes all = 0;
    for (const plan::AxisLayout &entry : layout)
      if (entry.kind() != plan::AxisLayout::REPLICATE)
        all |= Axes{1} << entry.axis();
    return all;
  }
  static Axes axesOf(const plan::StateTensor &tensor) {
    return axesOf(tensor.layout()) | (tensor.has_flat() ? axesOf(tensor.flat().axes()) : 0);
  }

  void write(const plan::Slice &slice, Axes varies, int writer = -1) {
    const Range range = context.rangeOf(slice);
    if (range.begin != range.end)
      arenas[range.arena].assign(range.begin, range.end, {0, varies & every, writer});
  }

  /// Along what any byte of a slice varies, of the axes `of`, and who wrote the first that does.
  Value read(const plan::Slice &slice, Axes of) {
    const Range range = context.rangeOf(slice);
    Value all;
    if (range.begin == range.end)
      return all;
    auto [first, last] = arenas[range.arena].cut(range.begin, range.end);
    for (auto it = first; it != last; ++it) {
      if (all.varies == 0)
        all.writer = it->second.writer;
      all.varies |= it->second.varies & of;
    }
    return all;
  }

  void step(const plan::Step &step, int number) {
    Axes varies = 0;
    for (const plan::Operand &operand : step.operands())
      if (operand.access() == plan::Operand::READ || operand.access() == plan::Operand::READ_WRITE)
        varies |= read(operand.slice(), every).varies;
    if (step.has_collective()) {
      const plan::Collective &work = step.collective();
      const bool alike = work.kind() == plan::Collective::ALL_REDUCE || work.kind() == plan::Collective::ALL_GATHER;
      varies = alike ? varies & ~axesOf(work.axes()) : varies | axesOf(work.axes());
    } else if (step.has_axis_slice()) {
      varies |= axesOf(step.axis_slice().axes());
    } else if (step.has_as_partial()) {
      varies |= axesOf(step.as_partial().axes());
    }
    for (const plan::Operand &operand : step.operands())
      if (operand.access() != plan::Operand::READ)
        write(operand.slice(), operand.access() == plan::Operand::SCRATCH ? every : varies, number);
  }

  void expect(const plan::StateTensor &tensor) {
    const Value found = read(tensor.slice(), every & ~axesOf(tensor));
    const Range range = context.rangeOf(tensor.slice());
    if (found.varies == 0 || !told.insert({range.arena, range.begin}).second)
      return;
    std::string axes;
    for (int axis = 0; axis < plan.mesh_size(); ++axis)
      if (found.varies >> axis & 1)
        axes += (axes.empty() ? "" : ", ") + quoted(plan.mesh(axis).name());
    context.add(Rule::Replica, {index, found.writer}, quoted(tensor.name()) + " may differ between ranks along " + axes,
                "its layout says that they hold the same, and nothing brings together what they computed it from");
  }

  Context &context;
  const plan::Plan &plan;
  int index;
  Axes every = 0;
  std::vector<Bytes<Value>> arenas;
  std::set<std::pair<uint32_t, uint64_t>> told; ///< tensors of a bucket share a slice
};

} // namespace

void checkReplicas(Context &context, int program) {
  if (rankCount(context.plan) <= 1)
    return;
  if (context.plan.mesh_size() > kMostAxes)
    return context.add(Rule::Replica, {}, "the mesh has " + std::to_string(context.plan.mesh_size()) + " axes",
                       "there can be " + std::to_string(kMostAxes));
  Walk(context, program).run();
}

} // namespace moe::validator
