//===- Same.cpp - What training on a mesh has in common with one rank ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/mesh/Same.h"
#include <cmath>
#include <gtest/gtest.h>

namespace moe::test {

using ir::HostTensor;

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

} // namespace

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

} // namespace moe::test
