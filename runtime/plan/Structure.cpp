//===- Structure.cpp - Are the numbers of a plan meaningful? ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Structure.h"

#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <vector>

namespace moe {

uint64_t elementBytes(plan::DType dtype) {
  switch (dtype) {
  case plan::F32:
  case plan::I32:
    return 4;
  case plan::BF16:
  case plan::F16:
    return 2;
  case plan::I64:
    return 8;
  case plan::BOOL:
    return 1;
  default:
    return 0;
  }
}

uint64_t saturatingProduct(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<uint64_t>::max() : product;
}

uint64_t saturatingSum(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<uint64_t>::max() : sum;
}

uint64_t elementCount(const google::protobuf::RepeatedField<int64_t> &shape) {
  uint64_t count = 1;
  for (int64_t size : shape) {
    if (size < 0)
      return std::numeric_limits<uint64_t>::max();
    count = saturatingProduct(count, size);
  }
  return count;
}

namespace {

constexpr int kMaxFaults = 20;
constexpr int kMaxThreads = 1024;
constexpr uint64_t kMaxRanks = 1u << 20;
/// Beyond this an arena could only be mapped, never aligned, by page tables; nothing in a plan needs more than 4 KiB.
constexpr uint64_t kMaxAlignment = 1u << 21;

class Checker {
public:
  explicit Checker(const plan::Plan &plan) : plan(plan) {}

  Status run() {
    target();
    if (!mesh())
      return report(); // without a mesh nobody knows how large the parts of tensors are
    memory();
    state();
    inputs();
    images();
    programs();
    metrics();
    return report();
  }

private:
  const plan::Plan &plan;
  int faults = 0;
  std::string text;

  Status report() {
    if (faults == 0)
      return {};
    if (faults > kMaxFaults)
      text += "\n  and " + std::to_string(faults - kMaxFaults) + " more";
    return error("the plan is not well formed", {}, text,
                 "the plan file is intact, so this is a defect of the compiler that wrote it (" +
                     plan.header().producer() + "): please report it");
  }

  void complain(const std::string &where, const std::string &what) {
    if (++faults <= kMaxFaults)
      text += (text.empty() ? "" : "\n  ") + where + ": " + what;
  }

  static std::string label(const char *table, int index, const std::string &name) {
    return std::string(table) + " " + std::to_string(index) + (name.empty() ? "" : " '" + name + "'");
  }

  void target() {
    if (plan.target().device().empty())
      complain("target", "no device is named");
    if (plan.target().threads() < 1 || plan.target().threads() > kMaxThreads)
      complain("target", std::to_string(plan.target().threads()) + " threads");
  }

  /// Whether the plan has a number of ranks; complains otherwise.
  bool mesh() {
    int before = faults;
    for (int i = 0; i < plan.mesh_size(); ++i)
      if (plan.mesh(i).size() < 1)
        complain(label("mesh axis", i, plan.mesh(i).name()), "its size is " + std::to_string(plan.mesh(i).size()));
    if (faults == before && rankCount(plan) > kMaxRanks)
      complain("mesh", meshText(plan) + " is more than " + std::to_string(kMaxRanks) + " ranks");
    return faults == before;
  }

  void memory() {
    uint64_t sum = 0;
    for (int i = 0; i < plan.arenas_size(); ++i) {
      const plan::Arena &arena = plan.arenas(i);
      std::string where = label("arena", i, arena.name());
      if (arena.class_() == plan::Arena::CLASS_UNSPECIFIED || !plan::Arena::Class_IsValid(arena.class_()))
        complain(where, "it has no class");
      if (!std::has_single_bit(arena.alignment()) || arena.alignment() > kMaxAlignment)
        complain(where, "alignment " + std::to_string(arena.alignment()) + " is no power of two up to 2 MiB");
      sum = saturatingSum(sum, arena.bytes());
    }
    if (plan.has_certificate() && sum > plan.certificate().total())
      complain("certificate", "the arenas have " + std::to_string(sum) + " bytes, which is more than the certified " +
                                  std::to_string(plan.certificate().total()));
    for (int i = 0; i < plan.buffers_size(); ++i) {
      const plan::Buffer &buffer = plan.buffers(i);
      std::string where = label("buffer", i, buffer.name());
      if (buffer.arena() >= static_cast<uint32_t>(plan.arenas_size()))
        complain(where, "there is no arena " + std::to_string(buffer.arena()));
      else if (saturatingSum(buffer.offset(), buffer.bytes()) > plan.arenas(buffer.arena()).bytes())
        complain(where, "it ends beyond its arena");
    }
  }

  /// The class of the arena a slice lies in, or CLASS_UNSPECIFIED after a complaint.
  plan::Arena::Class slice(const std::string &where, const plan::Slice &slice) {
    if (slice.buffer() >= static_cast<uint32_t>(plan.buffers_size())) {
      complain(where, "there is no buffer " + std::to_string(slice.buffer()));
      return plan::Arena::CLASS_UNSPECIFIED;
    }
    const plan::Buffer &buffer = plan.buffers(slice.buffer());
    if (saturatingSum(slice.offset(), slice.bytes()) > buffer.bytes()) {
      complain(where, "its slice ends beyond buffer " + std::to_string(slice.buffer()) + " '" + buffer.name() + "'");
      return plan::Arena::CLASS_UNSPECIFIED;
    }
    if (buffer.arena() >= static_cast<uint32_t>(plan.arenas_size()))
      return plan::Arena::CLASS_UNSPECIFIED; // reported with the buffer
    return plan.arenas(buffer.arena()).class_();
  }

  /// Checks a typed slice: `elements` fit, and they are aligned to their size.
  plan::Arena::Class tensor(const std::string &where, const plan::Slice &s, plan::DType dtype, uint64_t elements) {
    plan::Arena::Class kind = slice(where, s);
    uint64_t size = elementBytes(dtype);
    if (size == 0) {
      complain(where, "it has no data type");
      return kind;
    }
    if (saturatingProduct(elements, size) > s.bytes())
      complain(where, "its shape does not fit into its slice of " + std::to_string(s.bytes()) + " bytes");
    if (kind != plan::Arena::CLASS_UNSPECIFIED) {
      const plan::Buffer &buffer = plan.buffers(s.buffer());
      if ((buffer.offset() + s.offset()) % size != 0 || plan.arenas(buffer.arena()).alignment() % size != 0)
        complain(where, "its elements are not aligned");
    }
    return kind;
  }

  /// Whether the axes shard what they say; complains otherwise. Adds those that shard to `sharding`.
  template <typename Shape>
  bool layout(const std::string &where, const Shape &shape, const LayoutList &layouts, AxisList &sharding) {
    AxisList axes;
    std::vector<int64_t> rest(shape.begin(), shape.end());
    for (const plan::AxisLayout &layout : layouts) {
      axes.Add(layout.axis());
      if (!plan::AxisLayout::Kind_IsValid(layout.kind()) || !areAxes(plan, axes)) {
        complain(where, "its layout has an unknown kind, an axis that the mesh does not have, or one twice");
        return false;
      }
      if (layout.kind() != plan::AxisLayout::SHARD)
        continue;
      sharding.Add(layout.axis());
      const plan::MeshAxis &axis = plan.mesh(static_cast<int>(layout.axis()));
      if (layout.dim() >= rest.size() || rest[layout.dim()] % axis.size() != 0) {
        complain(where,
                 "its dimension " + std::to_string(layout.dim()) + " can not be split over axis '" + axis.name() + "'");
        return false;
      }
      rest[layout.dim()] /= axis.size();
    }
    return true;
  }

  /// Whether it is known which part of a state tensor a rank has; complains otherwise.
  bool place(const std::string &where, const plan::StateTensor &entry) {
    AxisList axes;
    if (!layout(where, entry.shape(), entry.layout(), axes))
      return false;
    bool isPartial = std::ranges::any_of(
        entry.layout(), [](const plan::AxisLayout &layout) { return layout.kind() == plan::AxisLayout::PARTIAL; });
    // Sums of an update are added up over ranks when they are read; they start from zero and are in no checkpoint.
    const bool isSum = entry.kind() == plan::StateTensor::GRADIENT ||
                       (entry.kind() == plan::StateTensor::CONTROL && !entry.checkpointed());
    if (isPartial && !isSum)
      complain(where, "it is partial, which only gradients and sums of an update may be");
    if (!entry.has_flat())
      return true;
    int before = faults;
    const plan::FlatPlace &flat = entry.flat();
    axes.MergeFrom(flat.axes());
    if (!areAxes(plan, axes))
      complain(where, "its bucket is split over axes that the mesh does not have, or that split it already");
    else if (flat.bucket() < 1 || static_cast<uint64_t>(flat.bucket()) % groupSize(plan, flat.axes()) != 0)
      complain(where, "its bucket of " + std::to_string(flat.bucket()) + " elements can not be split over its axes");
    else if (flat.position() < 0 || saturatingSum(static_cast<uint64_t>(flat.position()), shardElements(plan, entry)) >
                                        static_cast<uint64_t>(flat.bucket()))
      complain(where, "it ends beyond its bucket");
    return faults == before;
  }

  void state() {
    std::unordered_set<std::string> names, exported;
    for (int i = 0; i < plan.state_size(); ++i) {
      const plan::StateTensor &entry = plan.state(i);
      std::string where = label("state", i, entry.name());
      if (!place(where, entry))
        continue;
      plan::Arena::Class kind = tensor(where, entry.slice(), entry.dtype(), sliceElements(plan, entry));
      if (kind == plan::Arena::STEP || kind == plan::Arena::STAGING)
        complain(where, "it lies in memory that does not survive a program");
      if (entry.kind() == plan::StateTensor::KIND_UNSPECIFIED || !plan::StateTensor::Kind_IsValid(entry.kind()))
        complain(where, "it has no kind");
      if (!names.insert(entry.name()).second)
        complain(where, "the name occurs twice");
      if (entry.initial().has_data() && entry.initial().data().data().size() !=
                                            saturatingProduct(elementCount(entry.shape()), elementBytes(entry.dtype())))
        complain(where, "its initial value has another size");
      for (int64_t row : entry.initial().zero_rows())
        if (entry.shape_size() == 0 || row < 0 || row >= entry.shape(0))
          complain(where, "there is no row " + std::to_string(row) + " to set to zero");
      for (const plan::ExportName &name : entry.exports()) {
        if (name.name().empty() || !exported.insert(name.name()).second)
          complain(where, "it is exported as '" + name.name() + "', which is no name or that of another tensor");
        if (std::vector<uint32_t> order(name.permutation().begin(), name.permutation().end()); !order.empty()) {
          std::ranges::sort(order);
          bool each = order.size() == size_t(entry.shape_size());
          for (size_t d = 0; d < order.size(); ++d)
            each &= order[d] == d;
          if (!each)
            complain(where, "it is exported as '" + name.name() + "' with dimensions that it does not have");
        }
      }
    }
  }

  void inputs() {
    if (plan.training().accumulate() < 0)
      complain("training", "accumulate is negative");
    uint64_t copies = std::max<int64_t>(1, plan.training().accumulate());
    for (int i = 0; i < plan.inputs_size(); ++i) {
      const plan::Input &input = plan.inputs(i);
      std::string where = label("input", i, input.name());
      uint64_t elements = elementCount(input.shape());
      if (!input.axes().empty()) {
        uint64_t ranks = areAxes(plan, input.axes()) ? groupSize(plan, input.axes()) : 0;
        if (ranks == 0 || input.shape_size() == 0 || static_cast<uint64_t>(input.shape(0)) % ranks != 0) {
          complain(where, "its rows can not be split over its axes");
          continue;
        }
        elements = elements == std::numeric_limits<uint64_t>::max() ? elements : elements / ranks;
      }
      plan::Arena::Class kind = tensor(where, input.staging(), input.dtype(), saturatingProduct(elements, copies));
      if (kind != plan::Arena::STAGING && kind != plan::Arena::CLASS_UNSPECIFIED)
        complain(where, "it does not lie in a staging arena");
    }
  }

  void images() {
    for (int i = 0; i < plan.images_size(); ++i)
      if (plan.images(i).format().empty())
        complain(label("image", i, ""), "it has no format");
    for (int i = 0; i < plan.kernels_size(); ++i) {
      const plan::Kernel &kernel = plan.kernels(i);
      if (kernel.symbol().empty() || kernel.symbol().find('\0') != std::string::npos)
        complain(label("kernel", i, ""), "it has no symbol");
      if (kernel.image() >= static_cast<uint32_t>(plan.images_size()))
        complain(label("kernel", i, kernel.symbol()), "there is no image " + std::to_string(kernel.image()));
    }
  }

  void programs() {
    std::unordered_set<std::string> names;
    for (int p = 0; p < plan.programs_size(); ++p) {
      const plan::Program &program = plan.programs(p);
      std::string where = label("program", p, program.name());
      if (!names.insert(program.name()).second)
        complain(where, "the name occurs twice");
      if (program.signals() > static_cast<uint32_t>(program.steps_size()))
        complain(where, "it has more signals than steps");
      for (int s = 0; s < program.steps_size(); ++s)
        step(program, program.steps(s), where + ", " + label("step", s, program.steps(s).name()));
      for (int o = 0; o < program.outputs_size(); ++o) {
        const plan::Output &output = program.outputs(o);
        std::string which = where + ", " + label("output", o, output.name());
        if (AxisList axes; layout(which, output.shape(), output.layout(), axes))
          tensor(which, output.slice(), output.dtype(), shardElements(plan, output.shape(), output.layout()));
      }
    }
  }

  void step(const plan::Program &program, const plan::Step &step, const std::string &where) {
    for (uint32_t signal : step.waits())
      if (signal == 0 || signal > program.signals())
        complain(where, "it waits for signal " + std::to_string(signal) + ", which does not exist");
    if (step.signal() > program.signals())
      complain(where, "it raises signal " + std::to_string(step.signal()) + ", which does not exist");
    if (!(step.flops() >= 0) || std::isinf(step.flops()))
      complain(where, "its FLOP count is no count");
    int before = faults;
    for (int i = 0; i < step.operands_size(); ++i) {
      const plan::Operand &operand = step.operands(i);
      std::string which = where + ", operand " + std::to_string(i);
      if (operand.access() == plan::Operand::ACCESS_UNSPECIFIED || !plan::Operand::Access_IsValid(operand.access()))
        complain(which, "it has no access");
      // Scratch, and bytes that are only moved, need no type.
      if (operand.dtype() == plan::DTYPE_UNSPECIFIED && operand.shape_size() == 0)
        slice(which, operand.slice());
      else
        tensor(which, operand.slice(), operand.dtype(), elementCount(operand.shape()));
    }
    if (faults == before)
      checkWork(plan, step, [&](const std::string &what) { complain(where, what); });
  }

  void metrics() {
    for (int i = 0; i < plan.metrics_size(); ++i) {
      const plan::Metric &metric = plan.metrics(i);
      std::string where = label("metric", i, metric.name());
      if (tensor(where, metric.slice(), metric.dtype(), 1) == plan::Arena::STEP)
        complain(where, "it lies in memory that does not survive a program");
    }
  }
};

} // namespace

Status checkPlanStructure(const plan::Plan &plan) {
  return Checker(plan).run();
}

} // namespace moe
