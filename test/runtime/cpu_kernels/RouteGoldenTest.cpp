//===- RouteGoldenTest.cpp - Values that fairseq computed ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Cases A to H: eight tokens and four experts through the gates of fairseq's branch `moe` (tip ebea0072), in float64.
// Choices and slots are compared exactly, weights to 1e-6: the float32 of the kernels.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/RouteReference.h"

#include <gtest/gtest.h>

#include <string>

using namespace moe::cpu;
using namespace moe::test;

namespace {

const std::vector<float> logits = {2.0f,  1.0f, -0.5f, 0.0f,   1.5f, 0.25f, 1.0f, -1.0f, 0.75f,  -0.25f, 0.5f,
                                   0.0f,  3.0f, -1.0f, 0.0f,   2.5f, 1.25f, 1.0f, 0.5f,  -0.75f, -0.5f,  2.0f,
                                   1.75f, 0.0f, 2.25f, -0.75f, 0.0f, 1.5f,  0.5f, -1.5f, 0.25f,  -2.5f};

/// Expert, slot (-1 = dropped or rejected) and weight of a choice.
struct Choice {
  int expert;
  int slot;
  double weight;
};
using Expected = std::vector<std::pair<Choice, Choice>>;

const Expected caseA = {{{0, 0, 0.731058578630005}, {1, 1, 0.268941421369995}},
                        {{0, 1, 0.622459331201855}, {2, 0, 0.377540668798145}},
                        {{0, 2, 0.562176500885798}, {2, 1, 0.437823499114202}},
                        {{0, 3, 0.622459331201855}, {3, 0, 0.377540668798145}},
                        {{0, -1, 0}, {1, 2, 1}},
                        {{1, 0, 0.562176500885798}, {2, 2, 0.437823499114202}},
                        {{0, -1, 0}, {3, 1, 1}},
                        {{0, -1, 0}, {2, 3, 1}}};

Expected with(Expected expected, std::initializer_list<std::pair<size_t, std::pair<Choice, Choice>>> rows) {
  for (const auto &[row, choices] : rows)
    expected[row] = choices;
  return expected;
}

RouteShape shapeA() {
  return {.groups = 1, .tokens = 8, .experts = 4, .capacity = 4};
}

RouteResults run(const RouteShape &shape, const RouteInputs &inputs, std::vector<float> dweight = {}, float daux = 0) {
  dweight.resize(size_t(8 * shape.topK), 0.0f);
  return runRoute(shape, inputs, dweight, {daux}, 3);
}

void expectRoutes(const RouteResults &r, const Expected &expected) {
  for (size_t row = 0; row < 8; ++row)
    for (size_t i = 0; i < 2; ++i) {
      const Choice &choice = i == 0 ? expected[row].first : expected[row].second;
      const std::string where = "row " + std::to_string(row) + ", choice " + std::to_string(i);
      EXPECT_EQ(r.expert[row * 2 + i], choice.expert) << where;
      EXPECT_EQ(r.slot[row * 2 + i], choice.slot) << where;
      EXPECT_NEAR(double(r.weight[row * 2 + i]), choice.weight, 1e-6) << where;
      if (choice.slot >= 0)
        EXPECT_EQ(r.token[size_t(choice.expert) * (r.token.size() / 4) + size_t(choice.slot)], int(row * 2 + i))
            << where;
    }
}

TEST(RouteGolden, A) {
  const RouteResults r = run(shapeA(), {logits, {}, {}});
  expectRoutes(r, caseA);
  EXPECT_NEAR(double(r.aux[0]), 1.709620906940171, 1e-6);
  const double metrics[] = {1.053195483, 37.5, 0, 87.5, 0, 2, 50, 0, 1};
  for (size_t i = 0; i < RouteMetrics; ++i)
    EXPECT_NEAR(double(r.metrics[i]), metrics[i], 1e-6) << i;
  const double fraction[] = {0.875, 0.125, 0, 0};
  for (size_t e = 0; e < 4; ++e)
    EXPECT_EQ(double(r.firstFraction[e]), fraction[e]);
}

const Expected caseB = with(caseA, {{4, {{0, -1, 0}, {1, 2, 0.437823499114202}}},
                                    {6, {{0, -1, 0}, {3, 1, 0.320821300824607}}},
                                    {7, {{0, -1, 0}, {2, 3, 0.437823499114202}}}});

TEST(RouteGolden, B) {
  RouteShape shape = shapeA();
  shape.normalizeBeforeDropping = true;
  expectRoutes(run(shape, {logits, {}, {}}), caseB);
}

TEST(RouteGolden, C) {
  const RouteResults r = run(shapeA(), {logits, {0, 0, 1, 0, 0, 0, 0, 1}, {}});
  expectRoutes(r, with(caseA, {{2, {{0, -1, 0}, {2, -1, 0}}},
                               {3, {{0, 2, 0.622459331201855}, {3, 0, 0.377540668798145}}},
                               {4, {{0, 3, 0.562176500885798}, {1, 2, 0.437823499114202}}},
                               {5, {{1, 0, 0.562176500885798}, {2, 1, 0.437823499114202}}},
                               {6, {{0, -1, 0}, {3, 1, 1}}},
                               {7, {{0, -1, 0}, {2, -1, 0}}}}));
  EXPECT_NEAR(double(r.aux[0]), 1.247145232545813, 1e-6);
  const double metrics[] = {1.053195483, 100.0 / 6, 0, 87.5, 0, 2, 50, 0, 1};
  for (size_t i = 0; i < RouteMetrics; ++i)
    EXPECT_NEAR(double(r.metrics[i]), metrics[i], 2e-6) << i;
}

TEST(RouteGolden, D) {
  RouteShape shape = shapeA();
  shape.batchPrioritized = true;
  const RouteResults r = run(shape, {logits, {}, {}});
  expectRoutes(r, with(caseA, {{1, {{0, -1, 0}, {2, 1, 1}}},
                               {2, {{0, -1, 0}, {2, 3, 1}}},
                               {3, {{0, 2, 0.622459331201855}, {3, 1, 0.377540668798145}}},
                               {4, {{0, -1, 0}, {1, 2, 1}}},
                               {6, {{0, 1, 0.679178699175393}, {3, 0, 0.320821300824607}}},
                               {7, {{0, 3, 0.562176500885798}, {2, 0, 0.437823499114202}}}}));
  EXPECT_NEAR(double(r.aux[0]), 1.709620906940171, 1e-6);
}

TEST(RouteGolden, E) {
  RouteShape shape = shapeA();
  shape.capacity = 2;
  const RouteResults r = run(shape, {logits, {}, {}});
  expectRoutes(r, with(caseA, {{2, {{0, -1, 0}, {2, 1, 1}}},
                               {3, {{0, -1, 0}, {3, 0, 1}}},
                               {4, {{0, -1, 0}, {1, -1, 0}}},
                               {5, {{1, 0, 1}, {2, -1, 0}}},
                               {7, {{0, -1, 0}, {2, -1, 0}}}}));
  EXPECT_NEAR(double(r.metrics[OverflowExpert1]), 62.5, 1e-6);
  EXPECT_NEAR(double(r.metrics[OverflowExpert2]), 37.5, 1e-6);
}

const std::vector<float> uniform = {.9f, .1f, .5f, .7f, .3f, .2f, .6f, .05f};

TEST(RouteGolden, F) {
  RouteShape shape = shapeA();
  shape.policy = RoutePolicy::Random;
  expectRoutes(
      run(shape, {logits, {}, uniform}),
      with(caseA, {{0, {{0, 0, 1}, {1, -1, 0}}}, {4, {{0, -1, 0}, {1, 1, 1}}}, {6, {{0, -1, 0}, {3, -1, 0}}}}));
  shape.normalizeBeforeDropping = true;
  expectRoutes(run(shape, {logits, {}, uniform}), with(caseB, {{0, {{0, 0, 0.731058578630005}, {1, -1, 0}}},
                                                               {4, {{0, -1, 0}, {1, 1, 0.437823499114202}}}}));
}

TEST(RouteGolden, G) {
  RouteShape shape = shapeA();
  shape.policy = RoutePolicy::Sampling;
  std::vector<float> noise(32, 0.0f);
  const std::pair<size_t, float> added[] = {{2, 3.0f}, {1, 2.0f}, {3, 1.0f}, {1, 5.0f},
                                            {3, 2.0f}, {0, 3.0f}, {2, 4.0f}, {3, 3.0f}};
  for (size_t row = 0; row < 8; ++row)
    noise[row * 4 + added[row].first] = added[row].second;
  const RouteResults r = run(shape, {logits, {}, noise});
  auto both = [](int e1, int s1, int e2, int s2, double w2) {
    return std::pair<Choice, Choice>{{e1, s1, 1 - w2}, {e2, s2, w2}};
  };
  expectRoutes(r, {both(0, 0, 2, 0, 0.075858180021244), both(0, 1, 1, 1, 0.222700138825309),
                   both(0, 2, 3, 0, 0.320821300824607), both(0, 3, 1, 2, 0.017986209962092), both(0, -1, 3, 1, 1),
                   both(1, 0, 0, -1, 0), both(0, -1, 2, 1, 1), both(0, -1, 3, 2, 1)});
  EXPECT_NEAR(double(r.metrics[OverflowExpert2]), 12.5, 1e-6);
}

TEST(RouteGolden, H) {
  RouteShape shape = shapeA();
  shape.topK = 1;
  shape.capacity = 2;
  const RouteResults r = run(shape, {logits, {}, {}});
  const double weight[] = {0.630795543247, 0.506298234808, 0, 0, 0, 0.500946522190, 0, 0};
  EXPECT_EQ(r.slot, (std::vector<int32_t>{0, 1, -1, -1, -1, 0, -1, -1}));
  EXPECT_EQ(r.expert, (std::vector<int32_t>{0, 0, 0, 0, 0, 1, 0, 0}));
  for (size_t row = 0; row < 8; ++row)
    EXPECT_NEAR(double(r.weight[row]), weight[row], 1e-6);
  EXPECT_NEAR(double(r.aux[0]), 1.709620906940171, 1e-6);
  EXPECT_EQ(r.metrics[OverflowExpert1], 0.0f);
  EXPECT_EQ(r.metrics[UnusedExpert2Count], 0.0f);
}

TEST(RouteGolden, GradientOfAux) {
  const RouteResults r = run(shapeA(), {logits, {}, {}}, {}, 1.0f);
  const double expected[] = {0.092741708837,  -0.052903498959, -0.015040544401, -0.024797665477, 0.104767517935,
                             -0.024379930899, -0.070805151767, -0.009582435269, 0.099912513978,  -0.015917904386,
                             -0.052283228511, -0.031711381081, 0.104838002486,  -0.002181238913, -0.007787355252,
                             -0.094869408322, 0.097959820401,  -0.046084668145, -0.040322548647, -0.011552603609,
                             0.015962890675,  0.006612873426,  -0.019233485483, -0.003342278619, 0.102472642143,
                             -0.006369489820, -0.017531667902, -0.078571484421, 0.107145074056,  -0.011340996926,
                             -0.090047531062, -0.005756546068};
  for (size_t i = 0; i < 32; ++i)
    EXPECT_NEAR(double(r.dlogits[i]), expected[i], 1e-7) << i;
}

/// d/dW[s,e,c] of q = sum W[s,e,c] * ((1 + s)(1 + e)/8 + 0.1 c), as dweight.
std::vector<float> probe(const RouteResults &r) {
  std::vector<float> dweight;
  for (size_t i = 0; i < 16; ++i)
    dweight.push_back(float(double(1 + i / 2) * (1 + r.expert[i]) / 8 + 0.1 * r.slot[i]));
  return dweight;
}

TEST(RouteGolden, GradientOfWeights) {
  for (bool before : {false, true}) {
    RouteShape shape = shapeA();
    shape.normalizeBeforeDropping = before;
    const std::vector<float> dweight = probe(run(shape, {logits, {}, {}}));
    const RouteResults r = run(shape, {logits, {}, {}}, dweight);
    double q = 0;
    for (size_t i = 0; i < 16; ++i)
      q += r.slot[i] < 0 ? 0 : double(r.weight[i]) * double(dweight[i]);
    EXPECT_NEAR(q, before ? 7.949712792229048 : 13.065094488468006, 2e-6);
    std::vector<double> expected(32, 0);
    auto set = [&](size_t row, size_t first, size_t second, double value) {
      expected[row * 4 + second] = value;
      expected[row * 4 + first] = -value;
    };
    set(0, 0, 1, 0.044237684979);
    set(1, 0, 2, 0.094001484881);
    set(2, 0, 2, 0.159987153779);
    set(3, 0, 3, 0.282004454642);
    set(5, 1, 2, 0.233827378601);
    if (before) {
      set(4, 0, 1, 0.356894419970);
      set(6, 0, 3, 0.784421977543);
      set(7, 0, 2, 0.812242473034);
    }
    for (size_t i = 0; i < 32; ++i) {
      if (expected[i] == 0)
        EXPECT_EQ(r.dlogits[i], 0.0f) << i;
      else
        EXPECT_NEAR(double(r.dlogits[i]), expected[i], 1e-6) << i;
    }
  }
}

// A rank that holds rows 0 to 3 of eight: the others are zero rows, routed like any.
TEST(RouteGolden, RaggedBatch) {
  std::vector<float> ragged(logits.begin(), logits.begin() + 16);
  ragged.resize(32, 0.0f);
  const RouteResults r = run(shapeA(), {ragged, {0, 0, 0, 0, 1, 1, 1, 1}, {}});
  EXPECT_NEAR(double(r.aux[0]), 0.779014428615742, 1e-6);
  const double metrics[] = {1.225011671244435, 0, 0, 100, 0, 3, 62.5, 0, 1};
  for (size_t i = 0; i < RouteMetrics; ++i)
    EXPECT_NEAR(double(r.metrics[i]), metrics[i], 1e-6) << i;
  for (size_t row = 0; row < 4; ++row)
    EXPECT_NEAR(double(r.weight[row * 2]), caseA[row].first.weight, 1e-6);
}

} // namespace
