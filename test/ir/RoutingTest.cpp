//===- RoutingTest.cpp - Golden cases of the gate ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The values were computed with fairseq's own gate (branch `moe`) in float64 for the eight tokens and four experts
// below.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/ir/RoutingGoldens.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace moe::test;
using moe::ir::HostTensor;

namespace {

/// Where a token went: one choice. `slot` is -1 if the choice was dropped.
struct Choice {
  int64_t expert, slot;
  double weight;
};

/// The table of a golden case: first and second choice of each token.
using Table = std::vector<std::pair<Choice, Choice>>;

constexpr double w0 = 0.731058578630005, w1 = 0.622459331201855, w2 = 0.562176500885798;
constexpr double v0 = 0.268941421369995, v1 = 0.377540668798145, v2 = 0.437823499114202;
constexpr double b6 = 0.679178699175393, c6 = 0.320821300824607;

/// Case A; the others change some rows of it. Dropped choices keep their expert, which the histograms count.
const Table tableA = {{{0, 0, w0}, {1, 1, v0}}, {{0, 1, w1}, {2, 0, v1}}, {{0, 2, w2}, {2, 1, v2}},
                      {{0, 3, w1}, {3, 0, v1}}, {{0, -1, 0}, {1, 2, 1}},  {{1, 0, w2}, {2, 2, v2}},
                      {{0, -1, 0}, {3, 1, 1}},  {{0, -1, 0}, {2, 3, 1}}};

void expectTable(const RouteResults &results, const Table &table, int64_t capacity, int64_t group = 0,
                 int64_t groups = 1) {
  std::vector<int64_t> token(4 * capacity, -1);
  for (int64_t s = 0; s < 8; ++s)
    for (int64_t k = 0; k < 2; ++k) {
      const Choice &choice = k ? table[s].second : table[s].first;
      int64_t at = (group * 8 + s) * 2 + k;
      std::string where = "token " + std::to_string(s) + ", choice " + std::to_string(k);
      EXPECT_EQ(results.expert.ints[at], choice.expert) << where;
      EXPECT_EQ(results.slot.ints[at], choice.slot) << where;
      EXPECT_NEAR(results.weight.floats[at], choice.weight, 1e-12) << where;
      if (choice.slot >= 0)
        token[choice.expert * capacity + choice.slot] = s * 2 + k;
    }
  for (int64_t e = 0; e < 4; ++e)
    for (int64_t c = 0; c < capacity; ++c)
      EXPECT_EQ(results.token.ints[(e * groups + group) * capacity + c], token[e * capacity + c])
          << "expert " << e << ", slot " << c;
}

constexpr double auxA = 1.709620906940171;
constexpr double entropyA = 1.053195483;

/// entropy, overflow 1 and 2, top and bottom share and unused experts of first, then of second choices.
void expectMetrics(const RouteResults &results, const std::vector<double> &metrics) {
  ASSERT_EQ(results.metrics.floats.size(), metrics.size());
  for (size_t i = 0; i < metrics.size(); ++i)
    EXPECT_NEAR(results.metrics.floats[i], metrics[i], 1e-4) << "metric " << i;
  EXPECT_NEAR(results.metrics.floats[0], metrics[0], 1e-9);
}

TEST(Routing, CaseANormalisesAfterDropping) {
  RouteResults results = route({});
  expectTable(results, tableA, 4);
  EXPECT_NEAR(results.aux.floats[0], auxA, 1e-12);
  expectMetrics(results, {entropyA, 37.5, 0, 87.5, 0, 2, 50, 0, 1});
  const double me[4] = {0.462475674394, 0.181912093120, 0.216917224554, 0.138695007932};
  const double ce[4] = {0.875, 0.125, 0, 0};
  for (int e = 0; e < 4; ++e) {
    double mean = 0;
    for (int s = 0; s < 8; ++s)
      mean += results.probs.floats[s * 4 + e] / 8;
    EXPECT_NEAR(mean, me[e], 1e-12);
    EXPECT_EQ(results.firstFraction.floats[e], ce[e]);
  }
  // The idlest expert has no first choice; fairseq adds the smallest normal float to each share.
  EXPECT_EQ(results.metrics.floats[4], static_cast<double>(std::numeric_limits<float>::min()));
}

TEST(Routing, CaseBNormalisesBeforeDropping) {
  RouteResults results = route({.normalizeBefore = true});
  Table table = tableA;
  table[4].second.weight = v2;
  table[6].second.weight = c6;
  table[7].second.weight = v2;
  expectTable(results, table, 4);
  EXPECT_NEAR(results.aux.floats[0], auxA, 1e-12);
}

TEST(Routing, CaseCLeavesPaddingUnrouted) {
  RouteResults results = route({.mask = {0, 0, 1, 0, 0, 0, 0, 1}});
  Table table = tableA;
  table[2] = {{0, -1, 0}, {2, -1, 0}};
  table[3].first.slot = 2;
  table[4] = {{0, 3, w2}, {1, 2, v2}};
  table[5].second.slot = 1;
  table[7] = {{0, -1, 0}, {2, -1, 0}};
  expectTable(results, table, 4);
  EXPECT_NEAR(results.aux.floats[0], 1.247145232545813, 1e-12);
  expectMetrics(results, {entropyA, 100.0 / 6, 0, 87.5, 0, 2, 50, 0, 1});
}

TEST(Routing, CaseDServesTheMostCertainTokensFirst) {
  RouteResults results = route({.prioritized = true});
  Table table = {{{0, 0, w0}, {1, 1, v0}}, {{0, -1, 0}, {2, 1, 1}}, {{0, -1, 0}, {2, 3, 1}},
                 {{0, 2, w1}, {3, 1, v1}}, {{0, -1, 0}, {1, 2, 1}}, {{1, 0, w2}, {2, 2, v2}},
                 {{0, 1, b6}, {3, 0, c6}}, {{0, 3, w2}, {2, 0, v2}}};
  expectTable(results, table, 4);
  EXPECT_NEAR(results.aux.floats[0], auxA, 1e-12);
}

TEST(Routing, CaseEDropsSecondChoicesToo) {
  RouteResults results = route({.capacity = 2});
  Table table = {{{0, 0, w0}, {1, 1, v0}}, {{0, 1, w1}, {2, 0, v1}}, {{0, -1, 0}, {2, 1, 1}}, {{0, -1, 0}, {3, 0, 1}},
                 {{0, -1, 0}, {1, -1, 0}}, {{1, 0, 1}, {2, -1, 0}},  {{0, -1, 0}, {3, 1, 1}}, {{0, -1, 0}, {2, -1, 0}}};
  expectTable(results, table, 2);
  expectMetrics(results, {entropyA, 62.5, 37.5, 87.5, 0, 2, 50, 0, 1});
}

TEST(Routing, CaseFRejectsImprobableSecondChoices) {
  const std::vector<double> uniform = {.9, .1, .5, .7, .3, .2, .6, .05};
  RouteResults after = route({.policy = 2, .noise = uniform});
  Table table = tableA;
  table[0] = {{0, 0, 1}, {1, -1, 0}};
  table[4].second.slot = 1;
  table[6] = {{0, -1, 0}, {3, -1, 0}};
  expectTable(after, table, 4);

  RouteResults before = route({.policy = 2, .normalizeBefore = true, .noise = uniform});
  table = tableA;
  table[0] = {{0, 0, w0}, {1, -1, 0}};
  table[4].second = {1, 1, v2};
  table[6].second.weight = c6;
  table[7].second.weight = v2;
  expectTable(before, table, 4);
}

TEST(Routing, CaseGSamplesTheSecondChoice) {
  std::vector<double> noise(32, 0);
  const double added[8][2] = {{2, 3}, {1, 2}, {3, 1}, {1, 5}, {3, 2}, {0, 3}, {2, 4}, {3, 3}};
  for (int s = 0; s < 8; ++s)
    noise[s * 4 + static_cast<int>(added[s][0])] = added[s][1];
  RouteResults results = route({.policy = 1, .noise = noise});
  const double seconds[4] = {0.075858180021244, 0.222700138825309, 0.320821300824607, 0.017986209962092};
  Table table = tableA;
  table[0].second = {2, 0, seconds[0]};
  table[1].second = {1, 1, seconds[1]};
  table[2].second = {3, 0, seconds[2]};
  table[3].second = {1, 2, seconds[3]};
  for (int s = 0; s < 4; ++s)
    table[s].first.weight = 1 - seconds[s];
  table[4].second = {3, 1, 1};
  table[5] = {{1, 0, 1}, {0, -1, 0}}; // slot 7: seven first choices, although only four fit
  table[6].second = {2, 1, 1};
  table[7].second = {3, 2, 1};
  expectTable(results, table, 4);
  EXPECT_NEAR(results.metrics.floats[2], 12.5, 1e-12);
}

TEST(Routing, CaseHKeepsTheProbabilityOfTheOnlyChoice) {
  RouteResults results = route({.choices = 1, .capacity = 2});
  const int64_t experts[8] = {0, 0, 0, 0, 0, 1, 0, 0};
  const int64_t slots[8] = {0, 1, -1, -1, -1, 0, -1, -1};
  const double weights[8] = {0.630795543247, 0.506298234808, 0, 0, 0, 0.500946522190, 0, 0};
  for (int s = 0; s < 8; ++s) {
    EXPECT_EQ(results.expert.ints[s], experts[s]);
    EXPECT_EQ(results.slot.ints[s], slots[s]);
    EXPECT_NEAR(results.weight.floats[s], weights[s], 1e-12);
  }
  EXPECT_EQ(results.token.ints, (std::vector<int64_t>{0, 1, 5, -1, -1, -1, -1, -1}));
  EXPECT_NEAR(results.aux.floats[0], auxA, 1e-12);
  expectMetrics(results, {entropyA, 0, 0, 87.5, 0, 2, 0, 0, 0});
}

// Four real tokens in a group of eight rows; a zero row counts for expert 0 in the histograms.
TEST(Routing, ZeroRowsOfPaddingAreCountedInTheHistogram) {
  std::vector<double> logits = goldenLogits();
  std::fill(logits.begin() + 16, logits.end(), 0.0);
  RouteResults results = route({.mask = {0, 0, 0, 0, 1, 1, 1, 1}, .logits = logits});
  for (int s = 0; s < 4; ++s)
    for (int k = 0; k < 2; ++k)
      EXPECT_NEAR(results.weight.floats[s * 2 + k], (k ? tableA[s].second : tableA[s].first).weight, 1e-12);
  EXPECT_NEAR(results.aux.floats[0], 0.779014428615742, 1e-12);
  EXPECT_NEAR(results.metrics.floats[0], 1.225011671244435, 1e-12);
  expectMetrics(results, {1.225011671244435, 0, 0, 100, 0, 3, 62.5, 0, 1});
}

TEST(Routing, GroupsDoNotInfluenceEachOther) {
  std::vector<double> logits = goldenLogits(), both = goldenLogits();
  for (double logit : logits)
    both.push_back(-logit);
  RouteResults pair = route({.logits = both, .groups = 2});
  for (double &logit : logits)
    logit = -logit;
  RouteResults second = route({.logits = logits});
  expectTable(pair, tableA, 4, 0, 2);
  EXPECT_NEAR(pair.aux.floats[0], auxA, 1e-12);
  EXPECT_EQ(pair.aux.floats[1], second.aux.floats[0]);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(pair.slot.ints[16 + i], second.slot.ints[i]);
    EXPECT_EQ(pair.weight.floats[16 + i], second.weight.floats[i]);
    // token is [E,G,C]: expert i / 4, slot i % 4.
    EXPECT_EQ(pair.token.ints[(i / 4 * 2 + 1) * 4 + i % 4], second.token.ints[i]);
  }
  for (size_t i = 0; i < 9; ++i)
    EXPECT_EQ(pair.metrics.floats[9 + i], second.metrics.floats[i]);
}

TEST(Routing, OverflowOfAGroupOfPaddingIsNotANumber) {
  RouteResults results = route({.mask = std::vector<int64_t>(8, 1)});
  EXPECT_TRUE(std::isnan(results.metrics.floats[1]));
  EXPECT_TRUE(std::isnan(results.metrics.floats[2]));
  EXPECT_EQ(results.aux.floats[0], 0);
}

// A fifth of the experts, rounded up, counts as busiest: one of five, two of six.
TEST(Routing, BalanceSumsAFifthOfTheExperts) {
  const int first[10] = {3, 3, 3, 3, 4, 4, 4, 0, 0, 1};
  for (int64_t experts : {5, 6}) {
    std::vector<double> logits(10 * experts, 0);
    for (int s = 0; s < 10; ++s)
      logits[s * experts + first[s]] = 4;
    std::string e = std::to_string(experts);
    IrContext ir;
    std::vector<HostTensor> results =
        evaluate(ir,
                 "moe.route %0 {top_k = 1 : i64, capacity = 2 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : "
                 "(tensor<1x10x" +
                     e + "xf64>) -> (tensor<1x10x1xi32>, tensor<1x10x1xi32>, tensor<1x10x1xf64>, tensor<" + e +
                     "x1x2xi32>, tensor<1xf64>, tensor<1x10x" + e + "xf64>, tensor<1x" + e + "xf64>, tensor<1x9xf64>)",
                 {HostTensor({1, 10, experts}, logits)});
    ASSERT_EQ(results.size(), 8u) << ir.messages();
    EXPECT_NEAR(results[7].floats[3], experts == 5 ? 40 : 70, 1e-12);
    EXPECT_NEAR(results[7].floats[4], 0, 1e-12);
    EXPECT_EQ(results[7].floats[5], experts - 4);
  }
}

TEST(Routing, RejectsIndicesOutsideOfTheRows) {
  const std::string text =
      "moe.routed_dot %0, %1, %2, %3 : (tensor<1x1x1xf64>, tensor<2x1x3x1xf64>, tensor<1x1x1xi32>, "
      "tensor<1x1x1xi32>) -> tensor<1x1x1xf64>";
  auto messages = [&](int64_t expert, int64_t slot) {
    IrContext ir;
    evaluate(ir, text,
             {HostTensor({1, 1, 1}, {1}), HostTensor({2, 1, 3, 1}, std::vector<double>(6, 1)),
              HostTensor::ofInts({1, 1, 1}, {expert}), HostTensor::ofInts({1, 1, 1}, {slot})});
    return ir.messages();
  };
  EXPECT_EQ(messages(1, 2), "");
  EXPECT_NE(messages(2, 0).find("reads expert 2 of 2"), std::string::npos);
  EXPECT_NE(messages(-1, 0).find("reads expert -1 of 2"), std::string::npos);
  EXPECT_NE(messages(0, 3).find("reads slot 3 of 3"), std::string::npos);
}

// With one expert both choices are it, in different slots, with half the weight each.
TEST(Routing, OneExpertTakesBothChoices) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.route %0 {top_k = 2 : i64, capacity = 6 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : "
               "(tensor<1x3x1xf64>) -> (tensor<1x3x2xi32>, tensor<1x3x2xi32>, tensor<1x3x2xf64>, tensor<1x1x6xi32>, "
               "tensor<1xf64>, tensor<1x3x1xf64>, tensor<1x1xf64>, tensor<1x9xf64>)",
               {HostTensor({1, 3, 1}, {0.5, -1, 2})});
  ASSERT_EQ(results.size(), 8u) << ir.messages();
  EXPECT_EQ(results[0].ints, std::vector<int64_t>(6, 0));
  EXPECT_EQ(results[1].ints, (std::vector<int64_t>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(results[2].floats, std::vector<double>(6, 0.5));
  // The logarithm of a probability of 1 is that of 1 - eps, as in the reference.
  EXPECT_NEAR(results[7].floats[0], 1.1920929e-7, 1e-13);
}

TEST(Routing, TiesGoToTheLowestExpertAndTheEarliestToken) {
  RouteResults results = route({.prioritized = true, .logits = std::vector<double>(32, 0.25)});
  for (int64_t s = 0; s < 8; ++s) {
    EXPECT_EQ(results.expert.ints[s * 2], 0);
    EXPECT_EQ(results.expert.ints[s * 2 + 1], 1);
    EXPECT_EQ(results.slot.ints[s * 2], s < 4 ? s : -1);
  }
}

// Rows of an expert begin where a block does, in order of the choices; what is empty says so.
TEST(GroupedRows, TableOfTwoGroups) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.group_rows %0 {experts = 3 : i64, block = 2 : i64} : (tensor<2x3x2xi32>) -> (tensor<2x3x2xi32>, "
               "tensor<1x2x8xi32>, tensor<2x4xi32>)",
               {HostTensor::ofInts({2, 3, 2}, {2, 0, -1, 2, 2, -1, 1, 1, 1, 1, 1, 1})});
  ASSERT_EQ(results.size(), 3u) << ir.messages();
  EXPECT_EQ(results[0].ints, (std::vector<int64_t>{2, 0, -1, 3, 4, -1, 0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(results[1].ints, (std::vector<int64_t>{1, -1, 0, 3, 4, -1, -1, -1, 0, 1, 2, 3, 4, 5, -1, -1}));
  EXPECT_EQ(results[2].ints, (std::vector<int64_t>{0, 2, 2, -1, 1, 1, 1, -1}));
}

// Each part has room for all choices, in rows and blocks of its own, and counts its experts from zero.
TEST(GroupedRows, TableInParts) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.group_rows %0 {experts = 4 : i64, block = 2 : i64, parts = 2 : i64} : (tensor<2x3x2xi32>) -> "
               "(tensor<2x3x2xi32>, tensor<1x2x16xi32>, tensor<2x8xi32>)",
               {HostTensor::ofInts({2, 3, 2}, {3, 0, -1, 3, 3, 1, 2, 2, 2, 2, 2, 2})});
  ASSERT_EQ(results.size(), 3u) << ir.messages();
  EXPECT_EQ(results[0].ints, (std::vector<int64_t>{8, 0, -1, 9, 10, 2, 8, 9, 10, 11, 12, 13}));
  EXPECT_EQ(results[1].ints, (std::vector<int64_t>{1,  -1, 5,  -1, -1, -1, -1, -1, 0, 3, 4, -1, -1, -1, -1, -1,
                                                   -1, -1, -1, -1, -1, -1, -1, -1, 0, 1, 2, 3,  4,  5,  -1, -1}));
  EXPECT_EQ(results[2].ints, (std::vector<int64_t>{0, 1, -1, -1, 1, 1, -1, -1, -1, -1, -1, -1, 0, 0, 0, -1}));
}

// The most blocks that any choices need: one row in each of the last ones.
TEST(GroupedRows, FillsTheLastBlock) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.group_rows %0 {experts = 3 : i64, block = 2 : i64} : (tensor<1x5x1xi32>) -> (tensor<1x5x1xi32>, "
               "tensor<1x1x8xi32>, tensor<1x4xi32>)",
               {HostTensor::ofInts({1, 5, 1}, {0, 1, 0, 0, 2})});
  ASSERT_EQ(results.size(), 3u) << ir.messages();
  EXPECT_EQ(results[0].ints, (std::vector<int64_t>{0, 4, 1, 2, 6}));
  EXPECT_EQ(results[2].ints, (std::vector<int64_t>{0, 0, 1, 2}));
}

TEST(GroupedRows, ProductsOfBlocks) {
  // Two rows a block; weights of 1 x 2.
  const std::string types = "(tensor<1x4x1xf64>, tensor<1x2xi32>, tensor<3x1x2xf64>) -> tensor<1x4x2xf64>";
  auto products = [&](std::vector<int64_t> blocks) {
    IrContext ir;
    return evaluate(ir, "moe.grouped_dot %0, %1, %2 : " + types,
                    {HostTensor({1, 4, 1}, {1, 2, 3, 4}), HostTensor::ofInts({1, 2}, std::move(blocks)),
                     HostTensor({3, 1, 2}, {1, 10, 2, 20, 3, 30})})[0]
        .floats;
  };
  EXPECT_EQ(products({2, 0}), (std::vector<double>{3, 30, 6, 60, 3, 30, 4, 40}));
  EXPECT_EQ(products({-1, 1}), (std::vector<double>{0, 0, 0, 0, 6, 60, 8, 80}));
  IrContext ir;
  evaluate(ir, "moe.grouped_dot %0, %1, %2 : " + types,
           {HostTensor({1, 4, 1}, {1, 2, 3, 4}), HostTensor::ofInts({1, 2}, {0, 3}),
            HostTensor({3, 1, 2}, {1, 1, 1, 1, 1, 1})});
  EXPECT_NE(ir.messages().find("reads expert 3 of 3"), std::string::npos);
}

// Two tables of two parts, a block of one row each: experts 0 and 1, then 2 and 3.
TEST(GroupedRows, ProductsOfParts) {
  IrContext ir;
  std::vector<HostTensor> results =
      evaluate(ir,
               "moe.grouped_dot %0, %1, %2 {part_experts = 2 : i64, parts = 2 : i64} : (tensor<2x2x1xf64>, "
               "tensor<2x2xi32>, tensor<4x1x1xf64>) -> tensor<2x2x1xf64>",
               {HostTensor({2, 2, 1}, {1, 2, 3, 4}), HostTensor::ofInts({2, 2}, {1, 1, 0, -1}),
                HostTensor({4, 1, 1}, {1, 10, 100, 1000})});
  ASSERT_EQ(results.size(), 1u) << ir.messages();
  EXPECT_EQ(results[0].floats, (std::vector<double>{10, 2000, 3, 0}));
}

TEST(GroupedRows, WeightGradientOfEachExpert) {
  for (const char *separate : {"", ", separate"}) {
    IrContext ir;
    std::string types = *separate ? "(tensor<1x2xf64>, tensor<1x2xf64>, tensor<1x2xf64>)" : "tensor<3x1x2xf64>";
    std::vector<HostTensor> results =
        evaluate(ir,
                 std::string("moe.grouped_dot_weight_grad %0, %1, %2 {experts = 3 : i64") + separate +
                     "} : (tensor<1x6x1xf64>, tensor<1x6x2xf64>, tensor<1x3xi32>) -> " + types,
                 {HostTensor({1, 6, 1}, {1, 2, 3, 4, 5, 6}),
                  HostTensor({1, 6, 2}, {1, 0, 0, 1, 1, 1, 9, 9, 1, 2, 3, 4}), HostTensor::ofInts({1, 3}, {2, -1, 2})});
    std::vector<double> sums;
    for (const HostTensor &result : results)
      sums.insert(sums.end(), result.floats.begin(), result.floats.end());
    EXPECT_EQ(sums, (std::vector<double>{0, 0, 0, 0, 24, 36})) << ir.messages();
  }
}

} // namespace
