//===- RouteTest.cpp - Random cases against the dense formulas ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/RouteReference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

using namespace moe::cpu;
using namespace moe::test;

namespace {

struct Case {
  RouteShape shape;
  RouteInputs inputs;
  std::vector<float> dweight, daux;
};

Case randomCase(uint64_t seed) {
  std::mt19937_64 generator(seed);
  auto pick = [&](auto... values) {
    const int64_t list[] = {int64_t(values)...};
    return list[generator() % std::size(list)];
  };
  Case c;
  RouteShape &s = c.shape;
  s.groups = pick(1, 2, 3);
  s.tokens = pick(1, 3, 17, 40, 255);
  s.experts = pick(1, 2, 3, 5, 8, 16, 33);
  s.topK = pick(1, 2, 2);
  // From starved to ample.
  s.capacity = std::max<int64_t>(1, s.tokens * s.topK * pick(1, 2, 3, 8) / (2 * s.experts));
  s.policy = s.topK == 1 ? RoutePolicy::All : RoutePolicy(pick(0, 1, 2));
  s.normalizeBeforeDropping = pick(0, 1) != 0;
  s.batchPrioritized = pick(0, 1) != 0;
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::uniform_real_distribution<float> uniform;
  const int64_t rows = s.groups * s.tokens;
  // A skew that makes the first experts overflow.
  for (int64_t i = 0; i < rows * s.experts; ++i)
    c.inputs.logits.push_back(normal(generator) - 0.3f * float(i % s.experts));
  if (pick(0, 1, 2) == 0)
    for (int64_t i = 0; i < rows; ++i)
      c.inputs.mask.push_back(i % s.tokens != 0 && generator() % 4 == 0);
  if (s.policy == RoutePolicy::Sampling)
    for (int64_t i = 0; i < rows * s.experts; ++i)
      c.inputs.noise.push_back(-std::log(-std::log(uniform(generator) * 0.999f + 0.0005f)));
  if (s.policy == RoutePolicy::Random)
    for (int64_t i = 0; i < rows; ++i)
      c.inputs.noise.push_back(uniform(generator));
  for (int64_t i = 0; i < rows * s.topK; ++i)
    c.dweight.push_back(normal(generator));
  for (int64_t i = 0; i < s.groups; ++i)
    c.daux.push_back(normal(generator));
  return c;
}

void expectNear(double actual, double expected, double tolerance, const char *what) {
  if (std::isnan(expected))
    EXPECT_TRUE(std::isnan(actual)) << what;
  else
    EXPECT_NEAR(actual, expected, tolerance) << what;
}

void compareForward(const Case &c, const RouteResults &r, const DenseRoute &dense, size_t group) {
  const RouteShape &s = c.shape;
  const size_t S = size_t(s.tokens), E = size_t(s.experts), K = size_t(s.topK), C = size_t(s.capacity);
  std::vector<int32_t> token(E * C, -1);
  for (size_t row = 0; row < S; ++row) {
    for (size_t e = 0; e < E; ++e)
      ASSERT_NEAR(double(r.probs[(group * S + row) * E + e]), dense.probs[row][e], 1e-6);
    for (size_t choice = 0; choice < K; ++choice) {
      const size_t at = (group * S + row) * K + choice;
      ASSERT_EQ(r.expert[at], dense.expert[row][choice]);
      ASSERT_EQ(r.slot[at], dense.slot[row][choice]);
      ASSERT_NEAR(double(r.weight[at]), dense.weight[row][choice], 1e-6);
      if (r.slot[at] >= 0)
        token[size_t(r.expert[at]) * C + size_t(r.slot[at])] = int32_t(row * K + choice);
      else
        ASSERT_EQ(r.weight[at], 0.0f);
    }
  }
  for (size_t e = 0; e < E; ++e) {
    for (size_t slot = 0; slot < C; ++slot)
      ASSERT_EQ(r.token[(e * size_t(s.groups) + group) * C + slot], token[e * C + slot]);
    expectNear(double(r.firstFraction[group * E + e]), dense.firstFraction[e], 1e-6, "first fraction");
  }
  expectNear(double(r.aux[group]), dense.aux, 1e-6 * double(E), "aux");
  for (size_t metric = 0; metric < RouteMetrics; ++metric)
    expectNear(double(r.metrics[group * RouteMetrics + metric]), dense.metrics[metric], 2e-5, "metric");
}

// Central differences of step 1e-4 are right to 1e-7 here. Float32 probabilities carry 1e-7, which the incoming
// gradients and the factor E / S of the auxiliary loss multiply.
void compareBackward(const Case &c, const RouteResults &r, const DenseRoute &dense, size_t group) {
  const RouteShape &s = c.shape;
  const size_t rows = size_t(s.tokens), cells = rows * size_t(s.experts), choices = rows * size_t(s.topK);
  std::vector<double> logits(c.inputs.logits.begin() + int64_t(group * cells),
                             c.inputs.logits.begin() + int64_t((group + 1) * cells));
  const std::vector<double> dweight(c.dweight.begin() + int64_t(group * choices),
                                    c.dweight.begin() + int64_t((group + 1) * choices));
  double scale = std::abs(double(c.daux[group])) * double(s.experts) / double(s.tokens);
  for (double value : dweight)
    scale = std::max(scale, std::abs(value));
  const double tolerance = 1e-7 + 5e-7 * scale;
  for (size_t probe = 0; probe < 24; ++probe) {
    const size_t at = probe * 7919 % cells;
    const double kept = logits[at], h = 1e-4;
    logits[at] = kept + h;
    const double up = denseLoss(s, dense, logits, dweight, double(c.daux[group]));
    logits[at] = kept - h;
    const double down = denseLoss(s, dense, logits, dweight, double(c.daux[group]));
    logits[at] = kept;
    ASSERT_NEAR(double(r.dlogits[group * cells + at]), (up - down) / (2 * h), tolerance) << "logit " << at;
  }
}

// Any wrong choice, slot, offset of second choices, order, weight, inverse map, metric or gradient.
TEST(Route, EqualsDenseFormulas) {
  int dropped = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const Case c = randomCase(seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RouteResults r = runRoute(c.shape, c.inputs, c.dweight, c.daux, 1000000);
    for (int64_t group = 0; group < c.shape.groups; ++group) {
      const DenseRoute dense = denseRoute(c.shape, c.inputs, group);
      compareForward(c, r, dense, size_t(group));
      compareBackward(c, r, dense, size_t(group));
      for (const auto &slot : dense.slot)
        dropped += slot[0] < 0;
      if (HasFatalFailure())
        return;
    }
  }
  EXPECT_GT(dropped, 1000); // the cases do drop
}

// State shared by rows or groups.
TEST(Route, SplitAmongThreadsChangesNoBit) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Case c = randomCase(seed);
    const RouteResults whole = runRoute(c.shape, c.inputs, c.dweight, c.daux, 1000000);
    const RouteResults pieces = runRoute(c.shape, c.inputs, c.dweight, c.daux, 5);
    EXPECT_EQ(whole.slot, pieces.slot);
    EXPECT_EQ(whole.token, pieces.token);
    auto same = [](const std::vector<float> &a, const std::vector<float> &b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    EXPECT_TRUE(same(whole.weight, pieces.weight));
    EXPECT_TRUE(same(whole.probs, pieces.probs));
    EXPECT_TRUE(same(whole.aux, pieces.aux));
    EXPECT_TRUE(same(whole.metrics, pieces.metrics));
    EXPECT_TRUE(same(whole.dlogits, pieces.dlogits));
  }
}

// Ties go to the lowest expert and, batch-prioritised, to the earlier row.
TEST(Route, Ties) {
  RouteShape shape{.groups = 1, .tokens = 40, .experts = 4, .capacity = 8, .batchPrioritized = true};
  const RouteInputs inputs{.logits = std::vector<float>(160, 0.5f), .mask = {}, .noise = {}};
  const RouteResults r = runRoute(shape, inputs, std::vector<float>(80, 1.0f), {0.0f}, 40);
  for (int32_t row = 0; row < 40; ++row) {
    EXPECT_EQ(r.expert[size_t(row) * 2], 0);
    EXPECT_EQ(r.expert[size_t(row) * 2 + 1], 1);
    EXPECT_EQ(r.slot[size_t(row) * 2], row < 8 ? row : -1);
  }
}

// Numbers that are not numbers must neither leave the arrays nor vanish.
TEST(Route, NaNSurvives) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (bool prioritized : {false, true}) {
    RouteShape shape{.groups = 1, .tokens = 20, .experts = 4, .capacity = 20, .batchPrioritized = prioritized};
    RouteInputs inputs{.logits = std::vector<float>(80, nan), .mask = {}, .noise = {}};
    for (size_t e = 0; e < 4; ++e)
      inputs.logits[5 * 4 + e] = float(e);
    const RouteResults r = runRoute(shape, inputs, std::vector<float>(40, 1.0f), {0.0f}, 20);
    for (size_t row = 0; row < 20; ++row)
      EXPECT_EQ(std::isnan(r.weight[row * 2]), row != 5);
    EXPECT_TRUE(std::isnan(r.aux[0]));
  }
}

// Every row padding: nothing is routed, and there is no share of nothing.
TEST(Route, OnlyPadding) {
  RouteShape shape{.groups = 1, .tokens = 6, .experts = 4, .capacity = 3};
  const RouteInputs inputs{.logits = std::vector<float>(24, 0.0f), .mask = std::vector<uint8_t>(6, 1), .noise = {}};
  const RouteResults r = runRoute(shape, inputs, std::vector<float>(12, 1.0f), {1.0f}, 6);
  EXPECT_EQ(r.slot, std::vector<int32_t>(12, -1));
  EXPECT_EQ(r.token, std::vector<int32_t>(12, -1));
  EXPECT_EQ(r.weight, std::vector<float>(12, 0.0f));
  EXPECT_EQ(r.aux[0], 0.0f);
  EXPECT_TRUE(std::isnan(r.metrics[OverflowExpert1]));
  EXPECT_NEAR(r.metrics[EntropyGating], std::log(4.0f), 1e-6f);
}

} // namespace
