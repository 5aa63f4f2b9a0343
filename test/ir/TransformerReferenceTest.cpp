//===- TransformerReferenceTest.cpp - Coarse transformer operations where the answer is plain -------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Their decompositions and gradients are compared on random values elsewhere; here is what neither can show: which head
// reads which, where the mask begins, what happens to large numbers.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Philox.h"
#include "test/ir/TestSupport.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace moe::ir;
using namespace moe::test;

namespace {

TEST(TransformerReference, SoftmaxSubtractsTheMaximum) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir, "moe.softmax %0 : (tensor<2x2xf64>) -> tensor<2x2xf64>",
               {HostTensor({2, 2}, {1000, 1000 + std::log(3.0), -1000, -1000 - std::log(4.0)})});
  ASSERT_EQ(results.size(), 1u) << ir.messages();
  const double expected[] = {0.25, 0.75, 0.8, 0.2};
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(results[0].floats[i], expected[i], 1e-12);
}

TEST(TransformerReference, LayerNormDividesByTheBiasedVariance) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.layer_norm %0, %1, %2 {epsilon = 0.5 : f64} : (tensor<1x4xf64>, tensor<4xf64>, tensor<4xf64>) -> "
               "(tensor<1x4xf64>, tensor<1xf64>, tensor<1xf64>)",
               {HostTensor({1, 4}, {1, 2, 5, 8}), HostTensor({4}, {1, 2, 3, 4}), HostTensor({4}, {0, 10, 20, 30})});
  ASSERT_EQ(results.size(), 3u) << ir.messages();
  double rstd = 1 / std::sqrt(7.5 + 0.5);
  EXPECT_DOUBLE_EQ(results[1].floats[0], 4);
  EXPECT_DOUBLE_EQ(results[2].floats[0], rstd);
  const double expected[] = {-3 * rstd, 10 - 4 * rstd, 20 + 3 * rstd, 30 + 16 * rstd};
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(results[0].floats[i], expected[i], 1e-13);
}

TEST(TransformerReference, RmsNormSubtractsNothing) {
  IrContext ir;
  std::vector<HostTensor> results = evaluate(ir,
                                             "moe.rms_norm %0, %1 {epsilon = 1.5 : f64} : (tensor<1x4xf64>, "
                                             "tensor<4xf64>) -> (tensor<1x4xf64>, tensor<1xf64>)",
                                             {HostTensor({1, 4}, {1, 2, 5, 8}), HostTensor({4}, {1, 2, 3, -4})});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  double rstd = 1 / std::sqrt(23.5 + 1.5);
  EXPECT_DOUBLE_EQ(results[1].floats[0], rstd);
  const double expected[] = {rstd, 4 * rstd, 15 * rstd, -32 * rstd};
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(results[0].floats[i], expected[i], 1e-13);
}

TEST(TransformerReference, CrossEntropyIgnoresOneLabel) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.softmax_cross_entropy %0, %1 {ignore_index = 1 : i64} : (tensor<3x2xf64>, tensor<3xi64>) -> "
               "(tensor<3xf64>, tensor<3xf64>)",
               {HostTensor({3, 2}, {800, 800, 0, std::log(3.0), 0, 5}), HostTensor::ofInts({3}, {0, 0, 1})});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  EXPECT_NEAR(results[0].floats[0], std::log(2.0), 1e-12);
  EXPECT_NEAR(results[0].floats[1], std::log(4.0), 1e-12);
  EXPECT_EQ(results[0].floats[2], 0);
  EXPECT_NEAR(results[1].floats[0], 800 + std::log(2.0), 1e-12);
}

// Zero queries see all visible keys alike, so that results are means of values. Two queries, three keys, causal: query
// 0 sees keys 0 and 1, query 1 all three. Heads 0 and 1 share the first key head, 2 and 3 the second.
TEST(TransformerReference, AttentionMasksAndSharesKeyHeads) {
  IrContext ir;
  std::vector<double> value = {1, 100, 2, 200, 6, 600}; // [S, Hkv]
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.attention %0, %1, %2 {scale = 1.0 : f64, causal} : (tensor<1x2x4x1xf64>, tensor<1x3x2x1xf64>, "
               "tensor<1x3x2x1xf64>) -> (tensor<1x2x4x1xf64>, tensor<1x4x2xf64>)",
               {HostTensor({1, 2, 4, 1}, std::vector<double>(8, 0)), HostTensor({1, 3, 2, 1}, {1, 2, 3, 4, 5, 6}),
                HostTensor({1, 3, 2, 1}, value)});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  const double expected[] = {1.5, 1.5, 150, 150, 3, 3, 300, 300};
  for (int i = 0; i < 8; ++i) {
    EXPECT_NEAR(results[0].floats[i], expected[i], 1e-12 * expected[i]);
    EXPECT_NEAR(results[1].floats[i], std::log(i % 2 ? 3.0 : 2.0), 1e-12); // [H,T]
  }
}

// Zero queries, three sequences of two keys: none, the first, both are padding. Results are the means of visible
// values; those of the last sequence are zeros, not quotients of zeros.
TEST(TransformerReference, AttentionHidesPadding) {
  IrContext ir;
  const HostTensor zeros({3, 1, 1, 1}, {0, 0, 0}), keys({3, 2, 1, 1}, {1, 2, 3, 4, 5, 6});
  const HostTensor values({3, 2, 1, 1}, {10, 20, 30, 40, 50, 60}),
      padding = HostTensor::ofInts({3, 2}, {0, 0, 1, 0, 1, 1});
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.attention %0, %1, %2 padding %3 {scale = 2.0 : f64} : (tensor<3x1x1x1xf64>, tensor<3x2x1x1xf64>, "
               "tensor<3x2x1x1xf64>, tensor<3x2xi1>) -> (tensor<3x1x1x1xf64>, tensor<3x1x1xf64>)",
               {zeros, keys, values, padding});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(results[0].floats, (std::vector<double>{15, 40, 0}));
  EXPECT_EQ(results[1].floats, (std::vector<double>{std::log(2.0), 0, -infinity}));

  // With weights p: dv = p dout, dq = scale sum p (dout v - dout out) k, dk = 0 as the queries are 0.
  IrContext back;
  std::vector<HostTensor> gradients =
      evaluate(back,
               "moe.attention_backward %0, %1, %2, %3, %4, %5 padding %6 {scale = 2.0 : f64} : (tensor<3x1x1x1xf64>, "
               "tensor<3x1x1x1xf64>, tensor<3x2x1x1xf64>, tensor<3x2x1x1xf64>, tensor<3x1x1x1xf64>, tensor<3x1x1xf64>, "
               "tensor<3x2xi1>) -> (tensor<3x1x1x1xf64>, tensor<3x2x1x1xf64>, tensor<3x2x1x1xf64>)",
               {HostTensor({3, 1, 1, 1}, {1, 1, 1}), zeros, keys, values, results[0], results[1], padding});
  ASSERT_EQ(gradients.size(), 3u) << back.messages();
  const double expected[] = {2 * 0.5 * (-5 * 1 + 5 * 2), 0, 0};
  for (int i = 0; i < 3; ++i)
    EXPECT_NEAR(gradients[0].floats[i], expected[i], 1e-12) << i;
  EXPECT_EQ(gradients[1].floats, std::vector<double>(6, 0));
  const double weights[] = {0.5, 0.5, 0, 1, 0, 0};
  for (int i = 0; i < 6; ++i)
    EXPECT_NEAR(gradients[2].floats[i], weights[i], 1e-12) << i;
}

// One query, one key of width 2: scale (q . k) is the logarithm of the only weight.
TEST(TransformerReference, AttentionScalesScores) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.attention %0, %1, %2 {scale = 0.5 : f64} : (tensor<1x1x1x2xf64>, tensor<1x1x1x2xf64>, "
               "tensor<1x1x1x2xf64>) -> (tensor<1x1x1x2xf64>, tensor<1x1x1xf64>)",
               {HostTensor({1, 1, 1, 2}, {1, 2}), HostTensor({1, 1, 1, 2}, {3, 4}), HostTensor({1, 1, 1, 2}, {7, 8})});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  EXPECT_EQ(results[0].floats, (std::vector<double>{7, 8}));
  EXPECT_DOUBLE_EQ(results[1].floats[0], 5.5);
}

// Queries of one in one head; scores are keys of ln 1, ln 2, ln 4, ln 8.
std::vector<HostTensor> attentionOverLogarithms(const std::string &features, const std::string &types,
                                                std::vector<HostTensor> further) {
  IrContext ir;
  double two = std::log(2.0);
  std::vector<HostTensor> inputs = {HostTensor({1, 2, 1, 1}, {1, 1}),
                                    HostTensor({1, 4, 1, 1}, {0, two, 2 * two, 3 * two}),
                                    HostTensor({1, 4, 1, 1}, {1, 10, 100, 1000})};
  for (HostTensor &tensor : further)
    inputs.push_back(std::move(tensor));
  std::vector<HostTensor> results = evaluate(ir,
                                             "moe.attention %0, %1, %2 " + features +
                                                 " : (tensor<1x2x1x1xf64>, tensor<1x4x1x1xf64>, tensor<1x4x1x1xf64>" +
                                                 types + ") -> (tensor<1x2x1x1xf64>, tensor<1x1x2xf64>)",
                                             inputs);
  EXPECT_EQ(results.size(), 2u) << ir.messages();
  return results;
}

// Query 0 is at position 2 of the keys, query 1 at 3; a window of two leaves each its own position and the one before.
TEST(TransformerReference, AttentionWindowCountsFromTheEnd) {
  std::vector<HostTensor> results = attentionOverLogarithms("{scale = 1.0 : f64, causal, window = 2 : i64}", "", {});
  EXPECT_NEAR(results[0].floats[0], (2 * 10 + 4 * 100) / 6.0, 1e-12);
  EXPECT_NEAR(results[0].floats[1], (4 * 100 + 8 * 1000) / 12.0, 1e-12);
}

// The bias moves weights from the last key to the second and hides the third; the cap does not touch it.
TEST(TransformerReference, AttentionAddsTheBiasToCappedScores) {
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<HostTensor> results =
      attentionOverLogarithms("bias %3 {scale = 1.0 : f64, softcap = 2.0 : f64, bias_dims = array<i64: 3>}",
                              ", tensor<4xf64>", {HostTensor({4}, {0, 5, -infinity, -5})});
  double two = std::log(2.0),
         weights[] = {1, std::exp(2 * std::tanh(two / 2) + 5), 0, std::exp(2 * std::tanh(1.5 * two) - 5)};
  double sum = weights[0] + weights[1] + weights[3];
  for (int i = 0; i < 2; ++i) {
    EXPECT_NEAR(results[0].floats[i], (weights[0] + 10 * weights[1] + 1000 * weights[3]) / sum, 1e-12);
    EXPECT_NEAR(results[1].floats[i], std::log(sum), 1e-12);
  }
}

TEST(TransformerReference, AttentionSinksTakeWeightAndGiveNothing) {
  std::vector<HostTensor> results =
      attentionOverLogarithms("sinks %3 {scale = 1.0 : f64}", ", tensor<1xf64>", {HostTensor({1}, {std::log(5.0)})});
  EXPECT_NEAR(results[0].floats[0], 8421 / 20.0, 1e-12);
  EXPECT_NEAR(results[1].floats[0], std::log(20.0), 1e-12);
}

// The weights are dropped by the numbers of the [B,H,T,S] tensor that is never stored.
TEST(TransformerReference, AttentionDropsWeightsByTheirGlobalIndex) {
  IrContext ir;
  std::vector<double> values = {1, 10, 100, 1000, 10000, 100000};
  std::vector<HostTensor> results = evaluate(
      ir,
      "moe.attention %0, %1, %2 rng %3 {scale = 1.0 : f64, rate = 0.4 : f64, seed = 2 : i64, site = 3 : i64} : "
      "(tensor<2x2x1x1xf64>, tensor<2x3x1x1xf64>, tensor<2x3x1x1xf64>, tensor<2xi64>) -> "
      "(tensor<2x2x1x1xf64>, tensor<2x1x2xf64>)",
      {HostTensor({2, 2, 1, 1}, {0, 0, 0, 0}), HostTensor({2, 3, 1, 1}, values), HostTensor({2, 3, 1, 1}, values),
       HostTensor::ofInts({2}, {8, 1})});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  int dropped = 0;
  for (int row = 0; row < 4; ++row) { // b * T + t, with one head
    double sum = 0;
    for (int s = 0; s < 3; ++s) {
      bool drops = uniformNumber(2, 3, 8, 1, 12, row * 3 + s) < 0.4;
      dropped += drops;
      sum += drops ? 0 : values[row / 2 * 3 + s] / 3 / 0.6;
    }
    EXPECT_NEAR(results[0].floats[row], sum, 1e-10 * (1 + sum));
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, 12);
}

} // namespace
