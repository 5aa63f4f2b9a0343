//===- MutateTest.cpp - Mutations change plans, reproducibly ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/Mutate.h"

#include "test/runtime/validator/PlanBuilder.h"
#include "test/runtime/validator/RandomPlan.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

TEST(Mutate, ChangesThePlanTheSameWayForASeed) {
  plan::Plan original = randomPlan(3, {.steps = 20, .lanes = 3});
  plan::Step &gemm = *original.mutable_programs(0)->mutable_steps(4);
  gemm.mutable_gemm()->set_batch(2);
  for (uint64_t seed = 0; seed < 20 * kMutationKinds; ++seed) {
    plan::Plan once = original, twice = original;
    std::optional<Mutation> mutation = mutate(once, seed);
    ASSERT_TRUE(mutation) << "seed " << seed;
    EXPECT_EQ(int(mutation->kind), int(seed % kMutationKinds));
    EXPECT_FALSE(mutation->description.empty());
    EXPECT_NE(once.SerializeAsString(), original.SerializeAsString()) << mutation->description;
    mutate(twice, seed);
    EXPECT_EQ(once.SerializeAsString(), twice.SerializeAsString()) << mutation->description;
  }
}

TEST(Mutate, SaysWhenThereIsNothingToChange) {
  plan::Plan empty;
  for (int kind = 0; kind < kMutationKinds; ++kind)
    EXPECT_FALSE(mutate(empty, MutationKind(kind), 1));
  EXPECT_EQ(empty.ByteSizeLong(), 0u);
}

} // namespace
