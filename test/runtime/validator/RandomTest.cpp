//===- RandomTest.cpp - The validator against brute force ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Validator.h"
#include "test/runtime/KernelParameters.h"
#include "test/runtime/validator/LegalOrders.h"
#include "test/runtime/validator/Mutate.h"
#include "test/runtime/validator/Oracle.h"
#include "test/runtime/validator/RandomPlan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <string>

using namespace moe;
using namespace moe::test;

namespace {

std::string report(const plan::Plan &plan) {
  Status status = validate(plan).status();
  return status ? "no findings" : status.error().why;
}

/// The rules that brute force knows; findings of others mean that the plan can not be executed at all.
bool memoryRule(Rule rule) {
  return rule == Rule::Race || rule == Rule::Undefined || rule == Rule::Foreign || rule == Rule::Output ||
         rule == Rule::Destroyed;
}

TEST(Random, AcceptsValidPlans) {
  int shared = 0, concurrent = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    plan::Plan plan = randomPlan(seed, {.steps = 1 + int(seed % 6), .lanes = 1 + int(seed % 3)});
    ASSERT_TRUE(validate(plan).ok()) << "seed " << seed << "\n" << report(plan) << "\n" << plan.DebugString();
    ASSERT_EQ(bruteForce(plan, 0), "") << "seed " << seed;
    uint64_t sum = 0;
    for (const plan::Buffer &buffer : plan.buffers())
      sum += plan.arenas(int(buffer.arena())).class_() == plan::Arena::STEP ? buffer.bytes() : 0;
    shared += sum > plan.arenas(2).bytes() ? 1 : 0;
    concurrent += legalOrders(plan.programs(0), 2).size() > 1 ? 1 : 0;
  }
  // The plans would prove little if they never reused memory or never left a choice of order.
  EXPECT_GT(shared, 300);
  EXPECT_GT(concurrent, 300);
}

TEST(Random, AcceptsLargerValidPlans) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    plan::Plan plan = randomPlan(seed, {.steps = 120, .lanes = 1 + int(seed % 4), .largest = 64});
    ASSERT_TRUE(validate(plan).ok()) << "seed " << seed << "\n" << report(plan);
  }
}

/// On mutants, the validator and brute force must agree in both directions: a miss is a wrong result some day, a false
/// alarm a plan that does not run.
TEST(Random, AgreesWithBruteForceOnMutants) {
  std::map<std::string, int> verdicts;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    plan::Plan plan = randomPlan(seed / 4, {.steps = 2 + int(seed % 5), .lanes = 1 + int(seed % 3)});
    std::optional<Mutation> mutation = mutate(plan, MutationKind(seed % kMutationKinds), seed * 7919);
    if (!mutation)
      continue;
    declareKernelParameters(plan); // else mutants that contradict their kernels would test no other rule
    Validation validation = validate(plan, {.limit = 1000});
    bool executable = true, rejected = false;
    for (const Finding &finding : validation.findings)
      (memoryRule(finding.rule) ? rejected : executable) = memoryRule(finding.rule);
    if (!executable) {
      ++verdicts["not executable"];
      continue;
    }
    std::string oracle = bruteForce(plan, 0);
    ASSERT_EQ(rejected, !oracle.empty()) << "seed " << seed << ": " << mutation->description
                                         << "\nbrute force: " << oracle << "\nvalidator: " << report(plan) << "\n"
                                         << plan.DebugString();
    ++verdicts[rejected ? "rejected" : "harmless"];
  }
  for (const auto &[verdict, count] : verdicts) {
    std::cout << verdict << ": " << count << "\n";
    EXPECT_GT(count, 200) << verdict;
  }
  EXPECT_EQ(verdicts.size(), 3u);
}

/// Size of the 24-layer plans that must load in a moment.
TEST(Random, IsFast) {
  for (int lanes : {1, 4}) {
    plan::Plan plan = randomPlan(1, {.steps = 4000, .lanes = lanes, .largest = 64});
    double milliseconds = 1e9; // the best of three, since the machine may be busy
    for (int run = 0; run < 3; ++run) {
      auto start = std::chrono::steady_clock::now();
      Validation validation = validate(plan);
      std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
      milliseconds = std::min(milliseconds, time.count());
      EXPECT_TRUE(validation.ok()) << report(plan);
    }
    std::cout << lanes << " lanes, " << plan.buffers_size() << " buffers: " << milliseconds << " ms\n";
    // Several times what it takes, so that a sanitizer passes but nothing quadratic does.
    EXPECT_LT(milliseconds, 100);
  }
}

} // namespace
