//===- RoutingGradientTest.cpp - Golden gradients of the gate and a whole layer ---------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/RoutingGoldens.h"
#include <gtest/gtest.h>

using namespace moe::test;
using moe::ir::HostTensor;

namespace {

/// Gradient of the logits for gradients of weight and aux, from the results of the gate.
std::vector<double> logitsGradient(const RouteResults &r, std::vector<double> weightGrad, double auxGrad,
                                   bool normalizeBefore) {
  std::string k = std::to_string(r.expert.shape[2]);
  std::string choices = "tensor<1x8x" + k;
  IrContext ir;
  std::vector<HostTensor> results = evaluate(ir,
                                             std::string("moe.route_backward %0, %1, %2, %3, %4, %5 ") +
                                                 (normalizeBefore ? "{normalize_before_dropping} " : "") + ": (" +
                                                 choices + "xf64>, tensor<1xf64>, " + "tensor<1x8x4xf64>, " + choices +
                                                 "xi32>, " + choices + "xi32>, tensor<1x4xf64>) -> tensor<1x8x4xf64>",
                                             {HostTensor(r.weight.shape, std::move(weightGrad)),
                                              HostTensor({1}, {auxGrad}), r.probs, r.expert, r.slot, r.firstFraction});
  EXPECT_EQ(results.size(), 1u) << ir.messages();
  return results.empty() ? std::vector<double>(32) : results[0].floats;
}

TEST(RoutingGradient, OfTheAuxiliaryLoss) {
  RouteResults results = route({});
  std::vector<double> gradient = logitsGradient(results, std::vector<double>(16, 0), 1, false);
  const std::vector<double> expected = {
      0.092741708837,  -0.052903498959, -0.015040544401, -0.024797665477, 0.104767517935,  -0.024379930899,
      -0.070805151767, -0.009582435269, 0.099912513978,  -0.015917904386, -0.052283228511, -0.031711381081,
      0.104838002486,  -0.002181238913, -0.007787355252, -0.094869408322, 0.097959820401,  -0.046084668145,
      -0.040322548647, -0.011552603609, 0.015962890675,  0.006612873426,  -0.019233485483, -0.003342278619,
      0.102472642143,  -0.006369489820, -0.017531667902, -0.078571484421, 0.107145074056,  -0.011340996926,
      -0.090047531062, -0.005756546068};
  for (size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(gradient[i], expected[i], 1e-11) << "logit " << i;
}

/// q = sum over kept choices of weight * ((1 + s) (1 + e) / 8 + 0.1 slot); returns q and its gradient of the weights.
std::pair<double, std::vector<double>> probe(const RouteResults &results) {
  double q = 0;
  std::vector<double> weightGrad(16, 0);
  for (int64_t i = 0; i < 16; ++i)
    if (results.slot.ints[i] >= 0) {
      weightGrad[i] = (1.0 + i / 2) * (1.0 + results.expert.ints[i]) / 8 + 0.1 * results.slot.ints[i];
      q += weightGrad[i] * results.weight.floats[i];
    }
  return {q, weightGrad};
}

/// Token, expert, gradient; the first expert of the token has the opposite, every other logit zero.
struct Entry {
  int64_t token, expert;
  double value;
};

void expectSparse(const std::vector<double> &gradient, const std::vector<Entry> &entries) {
  std::vector<double> expected(32, 0);
  for (const Entry &entry : entries) {
    expected[entry.token * 4 + entry.expert] = entry.value;
    expected[entry.token * 4 + (entry.token == 5 ? 1 : 0)] = -entry.value;
  }
  for (size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(gradient[i], expected[i], 1e-11) << "logit " << i;
}

const std::vector<Entry> pairsOfA = {{0, 1, 0.044237684979},
                                     {1, 2, 0.094001484881},
                                     {2, 2, 0.159987153779},
                                     {3, 3, 0.282004454642},
                                     {5, 2, 0.233827378601}};

// A token with one survivor has weight 1 and passes no gradient; tokens 4, 6 and 7 are such.
TEST(RoutingGradient, OfWeightsNormalisedAfterDropping) {
  RouteResults results = route({});
  auto [q, weightGrad] = probe(results);
  EXPECT_NEAR(q, 13.065094488468006, 1e-12);
  expectSparse(logitsGradient(results, weightGrad, 0, false), pairsOfA);
}

TEST(RoutingGradient, OfWeightsNormalisedBeforeDropping) {
  RouteResults results = route({.normalizeBefore = true});
  auto [q, weightGrad] = probe(results);
  EXPECT_NEAR(q, 7.949712792229048, 1e-12);
  std::vector<Entry> entries = pairsOfA;
  entries.push_back({4, 1, 0.356894419970});
  entries.push_back({6, 3, 0.784421977543});
  entries.push_back({7, 2, 0.812242473034});
  expectSparse(logitsGradient(results, weightGrad, 0, true), entries);
}

// Gradients of dropped choices must not leak in.
TEST(RoutingGradient, IgnoresTheGradientOfDroppedChoices) {
  RouteResults results = route({});
  std::vector<double> weightGrad = probe(results).second, noisy = weightGrad;
  for (size_t i = 0; i < 16; ++i)
    if (results.slot.ints[i] < 0)
      noisy[i] = 1e6;
  EXPECT_EQ(logitsGradient(results, noisy, 0, false), logitsGradient(results, weightGrad, 0, false));
}

// Experts f_e(x) = (e + 1) x on x = logits: the layer multiplies each token by the sum of weight (e + 1).
TEST(RoutingLayer, MultipliesEachTokenByItsFactor) {
  const std::string module = R"(
    func.func @layer(%x: tensor<1x8x4xf64>, %scale: tensor<4xf64>) -> tensor<1x8x4xf64> {
      %expert, %slot, %weight, %token, %aux, %probs, %first, %metrics = moe.route %x {top_k = 2 : i64, capacity = 4 : i64,
          operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x8x4xf64>) -> (tensor<1x8x2xi32>, tensor<1x8x2xi32>,
          tensor<1x8x2xf64>, tensor<4x1x4xi32>, tensor<1xf64>, tensor<1x8x4xf64>, tensor<1x4xf64>, tensor<1x9xf64>)
      %rows = moe.dispatch %x, %expert, %slot, %token : (tensor<1x8x4xf64>, tensor<1x8x2xi32>, tensor<1x8x2xi32>,
          tensor<4x1x4xi32>) -> tensor<4x1x4x4xf64>
      %factor = moe.broadcast %scale {dims = array<i64: 0>} : (tensor<4xf64>) -> tensor<4x1x4x4xf64>
      %out = moe.mul %rows, %factor : (tensor<4x1x4x4xf64>, tensor<4x1x4x4xf64>) -> tensor<4x1x4x4xf64>
      %y = moe.combine %out, %expert, %slot, %token, %weight : (tensor<4x1x4x4xf64>, tensor<1x8x2xi32>,
          tensor<1x8x2xi32>, tensor<4x1x4xi32>, tensor<1x8x2xf64>) -> tensor<1x8x4xf64>
      return %y : tensor<1x8x4xf64>
    })";
  IrContext ir;
  auto parsed = ir.parse(module);
  ASSERT_TRUE(parsed) << ir.messages();
  std::vector<HostTensor> y =
      evaluate(*parsed, "layer", {HostTensor({1, 8, 4}, goldenLogits()), HostTensor({4}, {1, 2, 3, 4})});
  ASSERT_EQ(y.size(), 1u) << ir.messages();
  const double factors[8] = {
      1.268941421369995, 1.755081337596291, 1.875646998228405, 2.132622006394436, 2, 2.437823499114202, 4, 3};
  for (int i = 0; i < 32; ++i)
    EXPECT_NEAR(y[0].floats[i], factors[i / 4] * goldenLogits()[i], 1e-12);
}

} // namespace
