//===- Mutate.h - Damage a plan in one place ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Each mutation is what a bug of a scheduler or planner would do. A validator either rejects the mutant, or the mutant
// is harmless: it computes the same in every legal order and whatever dead bytes hold. "The same" means the same as in
// the order in which the mutant lists its steps, not the same as the plan it came from: swapping two updates of a state
// tensor gives another, equally well-ordered program.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_VALIDATOR_MUTATE_H
#define MOEC_TEST_RUNTIME_VALIDATOR_MUTATE_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <optional>
#include <string>

namespace moe::test {

enum class MutationKind {
  ShiftBuffer,      ///< another offset in the arena
  OverlayBuffers,   ///< a step buffer placed over another one, which thereby lives shorter
  ResizeSlice,      ///< an operand's slice grows or shrinks
  MoveSlice,        ///< an operand's slice starts elsewhere in its buffer
  RedirectOperand,  ///< an operand uses another buffer
  ChangeAccess,     ///< READ becomes WRITE, ...
  DropWait,         ///< a step no longer waits for a signal
  DelayWait,        ///< not a step waits for a signal but the next one of its lane
  SwapSteps,        ///< two neighbours in the list
  ChangeLane,       ///< a step runs in another lane
  DropStep,         ///< a step is missing
  ChangeGemmStride, ///< a row or batch stride of a GEMM
};
inline constexpr int kMutationKinds = int(MutationKind::ChangeGemmStride) + 1;

struct Mutation {
  MutationKind kind;
  int program = -1;        ///< that it changed; -1 if it moved a buffer, which all programs may use
  std::string description; ///< "step 3 \"h\" of \"update\" no longer waits for signal 2"
};

/// Applies the mutation that `seed` draws; always the same one for the same plan and seed. Nothing if the plan offers
/// none of the kind drawn (a plan without GEMMs has no strides to change) after a few attempts.
std::optional<Mutation> mutate(plan::Plan &plan, uint64_t seed);
/// The same for a given kind.
std::optional<Mutation> mutate(plan::Plan &plan, MutationKind kind, uint64_t seed);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_VALIDATOR_MUTATE_H
