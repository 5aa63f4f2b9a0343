//===- GridTest.cpp - Any mesh trains the same model
//----------------------------------------------------------------===//
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

#include "test/mesh/MeshRun.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace moe::test;
using moe::ir::HostTensor;

namespace {

double norm(const std::vector<double> &values) {
  double sum = 0;
  for (double value : values)
    sum += value * value;
  return std::sqrt(sum);
}

double distance(const HostTensor &a, const HostTensor &b) {
  std::vector<double> difference = a.floats;
  for (size_t i = 0; i < difference.size(); ++i)
    difference[i] -= b.floats[i];
  return norm(difference);
}

void expectSameTensors(const std::map<std::string, HostTensor> &actual,
                       const std::map<std::string, HostTensor> &expected, const std::string &what) {
  ASSERT_EQ(actual.size(), expected.size());
  double all = 0;
  for (const auto &[name, tensor] : expected)
    all = std::hypot(all, norm(tensor.floats));
  for (const auto &[name, tensor] : expected) {
    ASSERT_TRUE(actual.count(name)) << name;
    ASSERT_EQ(actual.at(name).shape, tensor.shape) << name;
    EXPECT_LE(distance(actual.at(name), tensor), 1e-12 * norm(tensor.floats) + 1e-13 * all)
        << what << " of " << name << " (norm " << norm(tensor.floats) << ")";
  }
}

void expectSame(const Trained &actual, const Trained &expected) {
  for (size_t u = 0; u < expected.loss.size(); ++u) {
    EXPECT_NEAR(actual.loss[u], expected.loss[u], 1e-12 * std::abs(expected.loss[u])) << "update " << u;
    EXPECT_NEAR(actual.gnorm[u], expected.gnorm[u], 1e-12 * expected.gnorm[u]) << "update " << u;
    EXPECT_NEAR(actual.clip[u], expected.clip[u], 1e-12) << "update " << u;
  }
  EXPECT_NEAR(actual.overflow, expected.overflow, 1e-9);
  expectSameTensors(actual.gradients, expected.gradients, "gradient");
  expectSameTensors(actual.weights, expected.weights, "weights");
}

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
