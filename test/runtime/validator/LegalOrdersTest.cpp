//===- LegalOrdersTest.cpp - Orders in which a program may run ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/LegalOrders.h"

#include "test/runtime/validator/PlanBuilder.h"
#include "test/runtime/validator/RandomPlan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

using namespace moe;
using namespace moe::test;

namespace {

plan::Program steps(const std::vector<std::pair<uint32_t, std::vector<uint32_t>>> &laneAndWaits) {
  plan::Program program;
  uint32_t signal = 0;
  for (const auto &[lane, waits] : laneAndWaits)
    PlanBuilder::step(program, "s", lane, {}, waits, ++signal);
  return program;
}

/// By definition: every step once, lanes in order, waits after signals.
bool legal(const plan::Program &program, const std::vector<int> &order) {
  std::vector<int> when(program.steps_size(), -1);
  for (int i = 0; i < int(order.size()); ++i)
    when[order[i]] = i;
  std::map<uint32_t, int> raised;
  for (int s = 0; s < program.steps_size(); ++s)
    raised[program.steps(s).signal()] = when[s];
  for (int s = 0; s < program.steps_size(); ++s) {
    if (when[s] < 0)
      return false;
    for (int t = 0; t < s; ++t)
      if (program.steps(t).lane() == program.steps(s).lane() && when[t] > when[s])
        return false;
    for (uint32_t wait : program.steps(s).waits())
      if (raised.at(wait) > when[s])
        return false;
  }
  return int(order.size()) == program.steps_size();
}

TEST(LegalOrders, OneLaneHasOneOrder) {
  EXPECT_EQ(legalOrders(steps({{0, {}}, {0, {}}, {0, {}}}), 10), (std::vector<std::vector<int>>{{0, 1, 2}}));
}

TEST(LegalOrders, ExtremesComeFirst) {
  std::vector<std::vector<int>> orders = legalOrders(steps({{0, {}}, {1, {}}, {0, {}}, {1, {}}}), 2);
  EXPECT_EQ(orders, (std::vector<std::vector<int>>{{0, 2, 1, 3}, {1, 3, 0, 2}}));
}

TEST(LegalOrders, WaitsHold) {
  EXPECT_EQ(allLegalOrders(steps({{0, {}}, {1, {1}}, {0, {2}}})), (std::vector<std::vector<int>>{{0, 1, 2}}));
  EXPECT_EQ(allLegalOrders(steps({{0, {}}, {1, {}}, {2, {}}})).size(), 6u);
}

TEST(LegalOrders, DeadlockHasNone) {
  EXPECT_TRUE(legalOrders(steps({{0, {2}}, {1, {1}}}), 5).empty());
  EXPECT_TRUE(allLegalOrders(steps({{0, {2}}, {1, {1}}})).empty());
}

TEST(LegalOrders, AllAreLegalAndDifferent) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    plan::Plan plan = randomPlan(seed, {.steps = 6, .lanes = 3});
    std::vector<std::vector<int>> all = allLegalOrders(plan.programs(0));
    std::set<std::vector<int>> distinct(all.begin(), all.end());
    EXPECT_EQ(distinct.size(), all.size());
    std::vector<int> permutation{0, 1, 2, 3, 4, 5};
    std::size_t count = 0;
    do
      count += legal(plan.programs(0), permutation) ? 1 : 0;
    while (std::next_permutation(permutation.begin(), permutation.end()));
    EXPECT_EQ(all.size(), count) << "seed " << seed;
    for (const std::vector<int> &order : legalOrders(plan.programs(0), 8, seed))
      EXPECT_TRUE(distinct.count(order)) << "seed " << seed;
  }
}

} // namespace
