//===- Collectives.h - What a plan's collectives move and need ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_COLLECTIVES_H
#define MOEC_RUNTIME_PLAN_COLLECTIVES_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>

namespace moe {

/// Whether a collective adds up (or takes the maximum of) what the ranks have.
bool reduces(const plan::Collective &collective);

/// Elements of the output on each rank, for a group of `ranks`.
uint64_t collectiveOutput(const plan::Collective &collective, uint64_t ranks);

/// How ranks share out the elements of an all_reduce: rank r adds up part r, which is `block` = ceil(count / ranks)
/// elements, the last parts fewer or none.
struct SummedParts {
  SummedParts(uint64_t count, uint64_t ranks);

  uint64_t begin(uint64_t rank) const;
  uint64_t size(uint64_t rank) const;

  uint64_t count;
  uint64_t block;
};

/// Scratch that a collective needs on hosts. Blocks that lie apart in the input are packed before they are sent and
/// blocks that lie apart in the output unpacked after they have come, each in a part that holds all blocks; reductions
/// need a part for the summands of all ranks. Sticks at UINT64_MAX.
uint64_t collectiveScratchBytes(const plan::Collective &collective, plan::DType dtype, uint64_t ranks);

/// What a rank sends to others in one collective.
struct Traffic {
  uint64_t bytes = 0;    ///< sticks at UINT64_MAX
  uint64_t messages = 0; ///< blocks, each to one rank; an empty one counts, since the other end waits for it
};

/// What the rank that sends most sends in a group of `ranks`, as blocks go straight to their ranks
/// (runtime/cpu/Collective.h): with b bytes of input, gathering sends it to each other rank, (n-1) b; scattering and
/// exchanging keep one part, (n-1) b/n; an all_reduce sends all parts but its own to their owners and its own sum to
/// all others, where the first rank's part is the largest, ceil(count/n) elements.
Traffic collectiveTraffic(const plan::Collective &collective, plan::DType dtype, uint64_t ranks);

/// Whether compute waits for all of collective `step` of a program: no step of another lane stands between it and the
/// first one that waits for its signal.
bool isExposed(const plan::Program &program, int step);

/// Digest (XXH3-64) of what the collectives of a program do, where their operands lie and who takes which part, in
/// order; 0 without any. Ranks whose digests differ would wait for each other or mix up tensors.
uint64_t collectiveDigest(const plan::Program &program);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_COLLECTIVES_H
