//===- RandomPlan.h - Valid plans of any size ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_VALIDATOR_RANDOMPLAN_H
#define MOEC_TEST_RUNTIME_VALIDATOR_RANDOMPLAN_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>

namespace moe::test {

struct RandomPlanOptions {
  int steps = 6;
  int lanes = 2;
  /// Values are 1 to this many units of `unit` bytes.
  int largest = 4;
  uint64_t unit = 4;
};

/// A plan with one program: a random graph of kernel calls over random lanes, waits that order all conflicts, and a
/// greedy placement in which buffers share memory wherever the order allows. Always valid. It has state that steps read
/// and update, staging that they read, scratch, updates in place, values written in two parts, and outputs.
plan::Plan randomPlan(uint64_t seed, const RandomPlanOptions &options = {});

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_VALIDATOR_RANDOMPLAN_H
