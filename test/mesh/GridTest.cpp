//===- GridTest.cpp - Any mesh trains the same model -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The module of every mesh, run on all its ranks by the float64 interpreter, against the module of one rank: losses,
// every gradient tensor, norms, clip factors, and the weights after three updates. Each case as whole tensors with
// layouts, and fused, without recomputation and with it. Tokens are dropped in every case, and dropout and the noise of
// the gate are drawn. Catches a missing or doubled reduction, an expert's gradient scaled by the number of ranks, a
// norm that counts a tensor twice or not at all, random numbers keyed by a rank's index, rows sent to the wrong expert,
// and operations that are copied into the backward with other random numbers or on other ranks.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/mesh/Same.h"
#include <gtest/gtest.h>

using namespace moe::test;

namespace {

struct Grid {
  bool top1;
  int64_t accumulate, groups;
};

class Meshes : public testing::TestWithParam<Grid> {};

TEST_P(Meshes, TrainTheSameModel) {
  const Grid &grid = GetParam();
  ModelSpec spec;
  spec.top1 = grid.top1;
  spec.accumulate = grid.accumulate;
  spec.groups = grid.groups;
  MeshModel model(spec);
  std::string messages;
  std::optional<Trained> one = model.train({}, 3, messages);
  ASSERT_TRUE(one) << messages;
  EXPECT_GT(one->overflow, 0) << "no token is dropped";
  EXPECT_LT(one->clip[0], 1) << "nothing is clipped";
  for (int64_t ranks = 1; ranks <= 16; ranks *= 2)
    for (int64_t expert = 1; expert <= ranks; expert *= 2)
      for (const char *fsdp : {"off", "optimizer", "full"})
        for (const char *recompute : {"", "none", "full"}) {
          Parallel how{ranks / expert, expert, fsdp, recompute};
          SCOPED_TRACE(how.name());
          std::string reported;
          std::optional<Trained> many = model.train(how, 3, reported);
          ASSERT_TRUE(many) << reported;
          expectSame(*many, *one);
          EXPECT_EQ(many->recomputed > 0, how.recompute == "full");
        }
}

INSTANTIATE_TEST_SUITE_P(All, Meshes,
                         testing::Values(Grid{false, 1, 4}, Grid{true, 1, 4}, Grid{false, 4, 1}, Grid{true, 4, 2}));

} // namespace
