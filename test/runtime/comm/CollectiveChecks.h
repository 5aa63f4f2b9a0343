//===- CollectiveChecks.h - Collectives against plain loops -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_COMM_COLLECTIVECHECKS_H
#define MOEC_TEST_RUNTIME_COMM_COLLECTIVECHECKS_H

#include "runtime/comm/Communicator.h"

#include <cstdint>
#include <string>

namespace moe::test {

/// Runs random collectives of all kinds, types and groups on this rank and compares each result, bit for bit, with
/// loops over the indexes of the whole tensors, which every rank can make for itself. All ranks call it with the same
/// `seed` and `rounds`. Returns the first difference, "" if there is none.
std::string checkCollectives(Communicator &communicator, uint64_t seed, int rounds);

/// Exchanges blocks of different sizes, empty ones included, many times in a row without a pause.
std::string checkExchanges(Communicator &communicator, int rounds);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_COMM_COLLECTIVECHECKS_H
