//===- Programs.cpp - What steps cover, lanes, signals and waits --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Collectives.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"
#include "runtime/plan/validator/Checks.h"
#include "runtime/plan/validator/HappensBefore.h"

#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

namespace moe::validator {
namespace {

/// A WRITE defines its whole slice, so that the slice must not be larger than what the shape says.
void checkShape(Context &context, Place place, const std::string &holder, plan::DType type, uint64_t elements,
                const plan::Slice &slice) {
  uint64_t bytes = saturatingProduct(elements, elementBytes(type));
  if (bytes != slice.bytes())
    context.add(Rule::Shape, place, holder + " has a shape of " + std::to_string(bytes) + " bytes",
                "its slice has " + std::to_string(slice.bytes()));
}

/// The rest of "every byte of the slice is written": library work writes these elements of an operand, no more.
void checkWritten(Context &context, Place place, const plan::Step &step, int operand,
                  std::initializer_list<int64_t> dims) {
  uint64_t elements = 1; // Structure has found the dims positive and the operands complete
  for (int64_t dim : dims)
    elements = saturatingProduct(elements, uint64_t(dim));
  const plan::Operand &target = step.operands(operand);
  uint64_t bytes = saturatingProduct(elements, elementBytes(target.dtype()));
  place.operand = operand;
  if (bytes != target.slice().bytes())
    context.add(Rule::Coverage, place,
                "the work writes " + std::to_string(bytes) + " of the " + std::to_string(target.slice().bytes()) +
                    " bytes of an operand",
                "the operand is declared " + plan::Operand::Access_Name(target.access()));
}

/// Whether rows x columns matrices keep apart: they follow one another, or lie between the rows of the first (heads).
bool apart(int64_t batch, int64_t rows, int64_t columns, int64_t leading, int64_t stride) {
  uint64_t one = saturatingSum(saturatingProduct(uint64_t(rows - 1), uint64_t(leading)), uint64_t(columns));
  uint64_t firstRows = saturatingSum(saturatingProduct(uint64_t(batch - 1), uint64_t(stride)), uint64_t(columns));
  return batch == 1 || uint64_t(stride) >= one || (stride >= columns && firstRows <= uint64_t(leading));
}

void checkGemm(Context &context, Place place, const plan::Step &step) {
  const plan::Gemm &g = step.gemm();
  int64_t rowsA = g.transpose_a() ? g.k() : g.m(), columnsA = g.transpose_a() ? g.m() : g.k();
  int64_t rowsB = g.transpose_b() ? g.n() : g.k(), columnsB = g.transpose_b() ? g.k() : g.n();
  // What is only read may be the same for the whole batch, but no plan of ours reads batches that overlap in part.
  if ((g.stride_a() != 0 && !apart(g.batch(), rowsA, columnsA, g.lda(), g.stride_a())) ||
      (g.stride_b() != 0 && !apart(g.batch(), rowsB, columnsB, g.ldb(), g.stride_b())))
    context.add(Rule::Coverage, place, "the strides of a gemm make the batches of A or B overlap");
  if (!apart(g.batch(), g.m(), g.n(), g.ldc(), g.stride_c()))
    context.add(Rule::Coverage, place, "the strides of a gemm make the batches of C overlap",
                "the result would depend on which is written last");
  else if (step.operands(2).access() == plan::Operand::WRITE)
    checkWritten(context, place, step, 2, {g.batch(), g.m(), g.n()});
}

void checkCoverage(Context &context, Place place, const plan::Step &step) {
  switch (step.work_case()) {
  case plan::Step::kGemm:
    return checkGemm(context, place, step);
  case plan::Step::kAttention: {
    const plan::Attention &a = step.attention();
    int optional = (a.has_padding() ? 1 : 0) + (a.dropout() > 0 ? 1 : 0) + (a.has_sinks() ? 1 : 0); // operands
    if (a.backward()) {
      checkWritten(context, place, step, 6 + optional, {a.batch(), a.queries(), a.heads(), a.head_dim()});
      checkWritten(context, place, step, 7 + optional, {a.batch(), a.keys(), a.kv_heads(), a.head_dim()});
      checkWritten(context, place, step, 8 + optional, {a.batch(), a.keys(), a.kv_heads(), a.head_dim()});
    } else {
      checkWritten(context, place, step, 3 + optional, {a.batch(), a.queries(), a.heads(), a.head_dim()});
      checkWritten(context, place, step, 4 + optional, {a.batch(), a.heads(), a.queries()});
    }
    return;
  }
  case plan::Step::kRoute: {
    const plan::Route &r = step.route();
    if (r.backward())
      return checkWritten(context, place, step, 6, {r.groups(), r.tokens(), r.experts()});
    int first = 1 + (r.has_mask() ? 1 : 0) + (r.policy() != plan::Route::ALL ? 1 : 0);
    constexpr int64_t kMetricsPerGroup = 9;
    for (int choice = 0; choice < 3; ++choice) // expert, slot, weight
      checkWritten(context, place, step, first + choice, {r.groups(), r.tokens(), r.top_k()});
    checkWritten(context, place, step, first + 3, {r.experts(), r.groups(), r.capacity()});
    checkWritten(context, place, step, first + 4, {r.groups()});
    checkWritten(context, place, step, first + 5, {r.groups(), r.tokens(), r.experts()});
    checkWritten(context, place, step, first + 6, {r.groups(), r.experts()});
    checkWritten(context, place, step, first + 7, {r.groups(), kMetricsPerGroup});
    return;
  }
  case plan::Step::kGroupedGemm: {
    const plan::GroupedGemm &g = step.grouped_gemm();
    int tensors = g.separate() ? static_cast<int>(g.experts()) : 1;
    if (!g.weight_grad())
      return checkWritten(context, place, step, 2 + tensors, {g.blocks(), g.block_rows(), g.right()});
    for (int tensor = 0; tensor < tensors; ++tensor)
      checkWritten(context, place, step, 3 + tensor, {g.separate() ? 1 : g.experts(), g.left(), g.right()});
    return;
  }
  case plan::Step::kScatterAdd:
    return checkWritten(context, place, step, 2, {step.scatter_add().table_rows(), step.scatter_add().width()});
  case plan::Step::kCopy:
    if (step.copy().index() && (step.operands(1).slice().bytes() == 0 ||
                                step.operands(0).slice().bytes() % step.operands(1).slice().bytes() != 0))
      context.add(Rule::Shape, place, "a copy takes one part of a source that is no whole number of parts");
    return;
  case plan::Step::kCollective: {
    const plan::Collective &c = step.collective();
    uint64_t ranks = groupSize(context.plan, c.axes());
    return checkWritten(context, place, step, c.in_place() ? 0 : 1, {int64_t(collectiveOutput(c, ranks))});
  }
  case plan::Step::kAxisSlice: {
    const plan::AxisSlice &s = step.axis_slice();
    uint64_t ranks = s.pad() ? groupSize(context.plan, s.axes()) : 1;
    return checkWritten(context, place, step, 1, {int64_t(ranks), s.parts().outer(), s.parts().inner()});
  }
  default: // fills, partial values and plain copies write what they declare; kernels are trusted to
    return;
  }
}

void checkOperands(Context &context, Place place, const plan::Step &step) {
  for (int i = 0; i < step.operands_size(); ++i) {
    const plan::Operand &operand = step.operands(i);
    // Without a shape the operand is bytes, or the shape is that of the work.
    if (operand.shape_size() != 0)
      checkShape(context, {place.program, place.step, i}, "an operand", operand.dtype(), elementCount(operand.shape()),
                 operand.slice());
  }
  checkCoverage(context, place, step);
}

/// Steps must be listed in a legal order: a wait for a later step would stop a backend that issues steps as listed, and
/// with lane order it may close a cycle.
bool checkSignals(Context &context, int index, const plan::Program &program) {
  bool sound = true;
  std::unordered_map<uint32_t, int> raisedBy;
  for (int i = 0; i < program.steps_size(); ++i) {
    uint32_t signal = program.steps(i).signal();
    if (signal == 0)
      continue;
    auto [first, fresh] = raisedBy.emplace(signal, i);
    if (!fresh) {
      context.add(Rule::Signal, {index, i}, "a step raises signal " + std::to_string(signal) + " again",
                  "it is raised by " + stepName(context.plan, index, first->second));
      sound = false;
    }
  }
  if (sound && raisedBy.size() != program.signals()) {
    context.add(Rule::Signal, {index}, "the program raises " + std::to_string(raisedBy.size()) + " signals",
                "it says that it uses " + std::to_string(program.signals()));
    sound = false;
  }
  for (int i = 0; i < program.steps_size(); ++i)
    for (uint32_t wait : program.steps(i).waits()) {
      auto raiser = raisedBy.find(wait);
      if (raiser == raisedBy.end()) {
        context.add(Rule::Signal, {index, i}, "a step waits for signal " + std::to_string(wait), "no step raises it");
        sound = false;
      } else if (raiser->second >= i) {
        context.add(Rule::Deadlock, {index, i}, "a step waits for signal " + std::to_string(wait),
                    "it is raised by " + stepName(context.plan, index, raiser->second) + ", which comes no earlier");
        sound = false;
      }
    }
  return sound;
}

bool checkLanes(Context &context, int index, const plan::Program &program) {
  std::unordered_set<uint32_t> lanes;
  for (const plan::Step &step : program.steps())
    lanes.insert(step.lane());
  if (lanes.size() <= kMostLanes)
    return true;
  context.add(Rule::Signal, {index}, "the program has " + std::to_string(lanes.size()) + " lanes",
              "there can be " + std::to_string(kMostLanes));
  return false;
}

/// One plan serves all ranks, so that its collectives come in one order on all of them if they come in one order at
/// all.
void checkCollectives(Context &context, int index, const plan::Program &program) {
  int first = -1;
  for (int i = 0; i < program.steps_size(); ++i) {
    if (!program.steps(i).has_collective())
      continue;
    first = first < 0 ? i : first;
    if (program.steps(i).lane() != program.steps(first).lane())
      context.add(Rule::Collective, {index, i}, "a collective is in lane " + std::to_string(program.steps(i).lane()),
                  stepName(context.plan, index, first) + " is in lane " + std::to_string(program.steps(first).lane()) +
                      ", and ranks could issue the two in different orders");
  }
  if (program.collectives() != collectiveDigest(program))
    context.add(Rule::Collective, {index}, "the digest of the collectives is not that of the program's steps",
                "ranks compare it when they start");
}

void checkOutputs(Context &context, int index, const plan::Program &program) {
  std::unordered_set<std::string> names;
  for (const plan::Output &output : program.outputs()) {
    std::string holder = "output " + quoted(output.name());
    if (!names.insert(output.name()).second)
      context.add(Rule::Reference, {index}, "two outputs are named " + quoted(output.name()));
    checkShape(context, {index}, holder, output.dtype(), shardElements(context.plan, output.shape(), output.layout()),
               output.slice());
  }
}

} // namespace

bool checkProgram(Context &context, int index) {
  const plan::Program &program = context.plan.programs(index);
  for (int s = 0; s < program.steps_size(); ++s)
    checkOperands(context, {index, s}, program.steps(s));
  checkOutputs(context, index, program);
  checkCollectives(context, index, program);
  bool ordered = checkSignals(context, index, program);
  return checkLanes(context, index, program) && ordered;
}

} // namespace moe::validator
