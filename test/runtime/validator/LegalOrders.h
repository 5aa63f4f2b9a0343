//===- LegalOrders.h - Orders in which a program may run ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_VALIDATOR_LEGALORDERS_H
#define MOEC_TEST_RUNTIME_VALIDATOR_LEGALORDERS_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <vector>

namespace moe::test {

/// Up to `n` different orders of the steps that lanes and signals allow, extreme ones first: for each lane, the order
/// that runs it as early as the others let it, and the one that runs it as late as possible; then random ones by
/// `seed`. A program of one lane has one order. Empty if the program deadlocks. An order lists indexes into
/// `Program.steps`.
std::vector<std::vector<int>> legalOrders(const plan::Program &program, int n, uint64_t seed = 0);

/// All legal orders. Their number grows like the factorial of the steps; for programs of a handful of steps.
std::vector<std::vector<int>> allLegalOrders(const plan::Program &program);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_VALIDATOR_LEGALORDERS_H
