//===- AttentionGradientTest.cpp - The oracle itself, against finite differences ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace moe;
using namespace moe::cpu;
using namespace moe::test;

namespace {

double loss(const AttentionShape &shape, const AttentionInputs &inputs) {
  const AttentionOutputs outputs = referenceForward(shape, inputs, 5, 2);
  double sum = 0;
  for (size_t i = 0; i < outputs.out.size(); ++i)
    sum += outputs.out[i] * inputs.dout[i];
  return sum;
}

void check(const AttentionShape &shape, const std::vector<uint8_t> &padding = {}) {
  AttentionInputs inputs = randomInputs(shape, 9);
  inputs.padding = padding;
  const AttentionOutputs outputs = referenceAttention(shape, inputs, 5, 2);
  std::mt19937 generator(1);
  auto probe = [&](std::vector<double> &values, const std::vector<double> &gradient) {
    for (int i = 0; i < 12; ++i) {
      const size_t at = generator() % values.size();
      const double kept = values[at], h = 1e-4;
      values[at] = kept + h;
      const double up = loss(shape, inputs);
      values[at] = kept - h;
      const double down = loss(shape, inputs);
      values[at] = kept;
      EXPECT_NEAR((up - down) / (2 * h), gradient[at], 1e-7 * (1 + std::abs(gradient[at])));
    }
  };
  probe(inputs.q, outputs.dq);
  probe(inputs.k, outputs.dk);
  probe(inputs.v, outputs.dv);
}

// The float64 gradients that the kernels are compared with.
TEST(AttentionGradient, ReferenceEqualsFiniteDifferences) {
  AttentionShape shape{{.batch = 2, .heads = 4, .kvHeads = 2, .queries = 5, .keys = 7, .headDim = 3, .scale = 0.6f}};
  check(shape);
  shape.causal = true;
  check(shape);
  shape.dropout = 0.3f;
  check(shape);
  check(shape, {1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}); // the first query of the first sequence sees nothing
}

} // namespace
