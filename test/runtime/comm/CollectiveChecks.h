//===- CollectiveChecks.h - Collectives against plain loops -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_COMM_COLLECTIVECHECKS_H
#define MOEC_TEST_RUNTIME_COMM_COLLECTIVECHECKS_H

#include "runtime/comm/Communicator.h"
#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace moe::test {

/// One collective of a plan for the ranks of `mesh`, and what this rank puts in.
struct CollectiveCall {
  const plan::Plan &mesh;
  plan::Collective work;
  plan::DType dtype = plan::F32;
  std::vector<std::byte> input;
  size_t outputBytes = 0;
};

/// Runs a collective; all ranks call it at the same time. Returns what this rank gets.
using RunCollective = std::function<Expected<std::vector<std::byte>>(Communicator &, const CollectiveCall &)>;

/// On the memory of the host (runtime/cpu/Collective.h). Errors: also, that it writes what it should not.
Expected<std::vector<std::byte>> runOnHost(Communicator &communicator, const CollectiveCall &call);

/// Runs random collectives of all kinds, types and groups on this rank and compares each result, bit for bit, with
/// loops over the indexes of the whole tensors, which every rank can make for itself. All ranks call it with the same
/// `seed` and `rounds`. Returns the first difference, "" if there is none.
std::string checkCollectives(Communicator &communicator, uint64_t seed, int rounds,
                             const RunCollective &run = runOnHost);

/// Exchanges blocks of different sizes, empty ones included, many times in a row without a pause.
std::string checkExchanges(Communicator &communicator, int rounds);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_COMM_COLLECTIVECHECKS_H
