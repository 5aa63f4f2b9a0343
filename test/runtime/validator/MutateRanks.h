//===- MutateRanks.h - Damage a plan where ranks meet -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_VALIDATOR_MUTATERANKS_H
#define MOEC_TEST_RUNTIME_VALIDATOR_MUTATERANKS_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <optional>
#include <string>

namespace moe::test {

/// What a bug of the passes that make programs of many ranks, or of a planner, would do.
enum class RankMutationKind {
  ForgetCollective, ///< each rank goes on with what it has itself
  ChangeGroup,      ///< a collective or a part is that of other axes
  ReverseGroup,     ///< the ranks of a group are numbered the other way round, or the mesh is
  MoveBlocks,       ///< a collective sends from, or receives into, another place
  SwapCollectives,  ///< two neighbours among the collectives change places
  ChangeReduction,  ///< the largest value instead of the sum
};
inline constexpr int kRankMutationKinds = int(RankMutationKind::ChangeReduction) + 1;

/// Applies the mutation that `seed` draws. Nothing if the plan has nothing of that kind. Returns what was done.
std::optional<std::string> mutateRanks(plan::Plan &plan, RankMutationKind kind, uint64_t seed);
/// Gives programs the digests of the collectives that they have, as a compiler with that bug would.
void renewDigests(plan::Plan &plan);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_VALIDATOR_MUTATERANKS_H
