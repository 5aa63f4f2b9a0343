//===- Mutate.cpp - Damage a plan in one place --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/Mutate.h"

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

namespace moe::test {
namespace {

class Mutator {
public:
  Mutator(plan::Plan &plan, uint64_t seed) : plan(plan), random(seed) {}

  std::optional<Mutation> apply(MutationKind kind) {
    mutation.kind = kind;
    switch (kind) {
    case MutationKind::ShiftBuffer:
      return shiftBuffer();
    case MutationKind::OverlayBuffers:
      return overlayBuffers();
    case MutationKind::ResizeSlice:
      return resizeSlice();
    case MutationKind::MoveSlice:
      return moveSlice();
    case MutationKind::RedirectOperand:
      return redirectOperand();
    case MutationKind::ChangeAccess:
      return changeAccess();
    case MutationKind::DropWait:
      return dropWait();
    case MutationKind::DelayWait:
      return delayWait();
    case MutationKind::SwapSteps:
      return swapSteps();
    case MutationKind::ChangeLane:
      return changeLane();
    case MutationKind::DropStep:
      return dropStep();
    case MutationKind::ChangeGemmStride:
      return changeGemmStride();
    }
    return std::nullopt;
  }

  /// A number below `n`, which must not be 0.
  uint64_t below(uint64_t n) { return random() % n; }

private:
  std::optional<Mutation> done(std::string description) {
    mutation.description = std::move(description);
    return mutation;
  }

  static std::string name(const plan::Buffer &buffer) { return "buffer \"" + buffer.name() + "\""; }

  /// A random step that qualifies; null if there is none.
  plan::Step *pickStep(const std::function<bool(const plan::Step &)> &qualifies) {
    std::vector<std::pair<int, int>> candidates;
    for (int p = 0; p < plan.programs_size(); ++p)
      for (int s = 0; s < plan.programs(p).steps_size(); ++s)
        if (qualifies(plan.programs(p).steps(s)))
          candidates.emplace_back(p, s);
    if (candidates.empty())
      return nullptr;
    auto [p, s] = candidates[below(candidates.size())];
    mutation.program = p;
    plan::Step &step = *plan.mutable_programs(p)->mutable_steps(s);
    where = "step " + std::to_string(s) + " \"" + step.name() + "\" of \"" + plan.programs(p).name() + "\"";
    return &step;
  }

  plan::Operand *pickOperand() {
    plan::Step *step = pickStep([](const plan::Step &candidate) { return candidate.operands_size() != 0; });
    if (!step)
      return nullptr;
    int index = int(below(uint64_t(step->operands_size())));
    where = "operand " + std::to_string(index) + " of " + where;
    return step->mutable_operands(index);
  }

  /// A distance such as a planner that rounds or forgets something gets wrong.
  uint64_t distance() {
    constexpr uint64_t kDistances[] = {1, 4, 8, 16, 64, 256, 4096};
    return kDistances[below(std::size(kDistances))];
  }

  std::optional<Mutation> shiftBuffer() {
    if (plan.buffers_size() == 0)
      return std::nullopt;
    plan::Buffer &buffer = *plan.mutable_buffers(int(below(uint64_t(plan.buffers_size()))));
    uint64_t by = distance(), old = buffer.offset();
    bool down = below(2) == 0 && by <= old;
    buffer.set_offset(down ? old - by : old + by);
    return done(name(buffer) + " moves from offset " + std::to_string(old) + " to " + std::to_string(buffer.offset()));
  }

  std::optional<Mutation> overlayBuffers() {
    std::vector<int> step;
    for (int b = 0; b < plan.buffers_size(); ++b)
      if (plan.buffers(b).bytes() != 0 && plan.arenas(int(plan.buffers(b).arena())).class_() == plan::Arena::STEP)
        step.push_back(b);
    if (step.size() < 2)
      return std::nullopt;
    plan::Buffer &moved = *plan.mutable_buffers(step[below(step.size())]);
    const plan::Buffer &under = plan.buffers(step[below(step.size())]);
    uint64_t room = plan.arenas(int(under.arena())).bytes();
    if (&moved == &under || moved.arena() != under.arena() || moved.bytes() > room)
      return std::nullopt;
    uint64_t offset = std::min(under.offset(), room - moved.bytes());
    if (offset == moved.offset())
      return std::nullopt;
    moved.set_offset(offset);
    return done(name(moved) + " moves over " + name(under));
  }

  std::optional<Mutation> resizeSlice() {
    plan::Operand *operand = pickOperand();
    if (!operand)
      return std::nullopt;
    plan::Slice &slice = *operand->mutable_slice();
    uint64_t by = distance(), old = slice.bytes();
    slice.set_bytes(below(2) == 0 && by < old ? old - by : old + by);
    // A planner that gets a size wrong gets the shape wrong with it; a shape that contradicts its slice is easily
    // found.
    operand->clear_shape();
    return done(where + " covers " + std::to_string(slice.bytes()) + " bytes instead of " + std::to_string(old));
  }

  std::optional<Mutation> moveSlice() {
    plan::Operand *operand = pickOperand();
    if (!operand)
      return std::nullopt;
    plan::Slice &slice = *operand->mutable_slice();
    uint64_t by = distance(), old = slice.offset();
    slice.set_offset(below(2) == 0 && by <= old ? old - by : old + by);
    return done(where + " starts at byte " + std::to_string(slice.offset()) + " instead of " + std::to_string(old));
  }

  std::optional<Mutation> redirectOperand() {
    plan::Operand *operand = pickOperand();
    if (!operand)
      return std::nullopt;
    uint32_t old = operand->slice().buffer(), other = uint32_t(below(uint64_t(plan.buffers_size())));
    if (other == old)
      return std::nullopt;
    operand->mutable_slice()->set_buffer(other);
    return done(where + " uses " + name(plan.buffers(int(other))) + " instead of " + name(plan.buffers(int(old))));
  }

  std::optional<Mutation> changeAccess() {
    plan::Operand *operand = pickOperand();
    if (!operand)
      return std::nullopt;
    auto access = plan::Operand::Access(plan::Operand::READ + int(below(4)));
    if (access == operand->access())
      return std::nullopt;
    std::string old = plan::Operand::Access_Name(operand->access());
    operand->set_access(access);
    return done(where + " is " + plan::Operand::Access_Name(access) + " instead of " + old);
  }

  std::optional<Mutation> dropWait() {
    plan::Step *step = pickStep([](const plan::Step &candidate) { return candidate.waits_size() != 0; });
    if (!step)
      return std::nullopt;
    int index = int(below(uint64_t(step->waits_size())));
    uint32_t signal = step->waits(index);
    step->mutable_waits()->erase(step->waits().begin() + index);
    return done(where + " no longer waits for signal " + std::to_string(signal));
  }

  std::optional<Mutation> delayWait() {
    plan::Step *step = pickStep([](const plan::Step &candidate) { return candidate.waits_size() != 0; });
    if (!step)
      return std::nullopt;
    auto &steps = *plan.mutable_programs(mutation.program)->mutable_steps();
    auto next =
        std::find_if(steps.pointer_begin(), steps.pointer_end(), [&](plan::Step *each) { return each == step; });
    do
      ++next;
    while (next != steps.pointer_end() && (*next)->lane() != step->lane());
    if (next == steps.pointer_end())
      return std::nullopt;
    int index = int(below(uint64_t(step->waits_size())));
    uint32_t signal = step->waits(index);
    step->mutable_waits()->erase(step->waits().begin() + index);
    (*next)->add_waits(signal);
    return done(where + " leaves waiting for signal " + std::to_string(signal) + " to the next step of its lane");
  }

  std::optional<Mutation> swapSteps() {
    plan::Step *step = pickStep([](const plan::Step &) { return true; });
    if (!step)
      return std::nullopt;
    auto &steps = *plan.mutable_programs(mutation.program)->mutable_steps();
    int index = 0;
    while (&steps.at(index) != step)
      ++index;
    if (index + 1 == steps.size())
      return std::nullopt;
    steps.SwapElements(index, index + 1);
    return done(where + " changes places with its successor");
  }

  std::optional<Mutation> changeLane() {
    plan::Step *step = pickStep([](const plan::Step &) { return true; });
    if (!step)
      return std::nullopt;
    constexpr uint64_t kLanes = 4;
    uint32_t lane = uint32_t(below(kLanes)), old = step->lane();
    if (lane == old)
      return std::nullopt;
    step->set_lane(lane);
    return done(where + " runs in lane " + std::to_string(lane) + " instead of " + std::to_string(old));
  }

  /// Only steps that raise no signal: a wait for nothing would be found at once.
  std::optional<Mutation> dropStep() {
    plan::Step *step = pickStep([](const plan::Step &candidate) { return candidate.signal() == 0; });
    if (!step)
      return std::nullopt;
    auto &steps = *plan.mutable_programs(mutation.program)->mutable_steps();
    int index = 0;
    while (&steps.at(index) != step)
      ++index;
    steps.DeleteSubrange(index, 1);
    return done(where + " is missing");
  }

  std::optional<Mutation> changeGemmStride() {
    plan::Step *step = pickStep([](const plan::Step &candidate) { return candidate.has_gemm(); });
    if (!step)
      return std::nullopt;
    plan::Gemm &gemm = *step->mutable_gemm();
    using Getter = int64_t (plan::Gemm::*)() const;
    using Setter = void (plan::Gemm::*)(int64_t);
    struct Field {
      const char *name;
      Getter get;
      Setter set;
    };
    const Field fields[] = {{"lda", &plan::Gemm::lda, &plan::Gemm::set_lda},
                            {"ldb", &plan::Gemm::ldb, &plan::Gemm::set_ldb},
                            {"ldc", &plan::Gemm::ldc, &plan::Gemm::set_ldc},
                            {"stride_a", &plan::Gemm::stride_a, &plan::Gemm::set_stride_a},
                            {"stride_b", &plan::Gemm::stride_b, &plan::Gemm::set_stride_b},
                            {"stride_c", &plan::Gemm::stride_c, &plan::Gemm::set_stride_c}};
    // Batch strides mean nothing to a single matrix, nor row strides to a single row.
    const Field &field = fields[below(gemm.batch() > 1 ? 6 : 3)];
    int64_t old = (gemm.*field.get)(), by = int64_t(distance());
    (gemm.*field.set)(below(2) == 0 && by < old ? old - by : old + by);
    return done(std::string(field.name) + " of " + where + " is " + std::to_string((gemm.*field.get)()) +
                " instead of " + std::to_string(old));
  }

  plan::Plan &plan;
  std::mt19937_64 random;
  Mutation mutation{};
  std::string where; ///< of what was picked last
};

} // namespace

std::optional<Mutation> mutate(plan::Plan &plan, MutationKind kind, uint64_t seed) {
  constexpr int kAttempts = 20;
  Mutator mutator(plan, seed);
  for (int attempt = 0; attempt < kAttempts; ++attempt)
    if (std::optional<Mutation> mutation = mutator.apply(kind))
      return mutation;
  return std::nullopt;
}

std::optional<Mutation> mutate(plan::Plan &plan, uint64_t seed) {
  return mutate(plan, MutationKind(seed % kMutationKinds), seed);
}

} // namespace moe::test
