//===- PhiloxTest.cpp - Known answers of the random numbers -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Philox.h"
#include "test/ir/TestSupport.h"
#include <gtest/gtest.h>
#include <set>

using namespace moe::ir;
using namespace moe::test;
using Words = std::array<uint32_t, 4>;

namespace {

// The vectors published with Random123 (kat_vectors, philox4x32 10).
TEST(Philox, GivesThePublishedWords) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The first numbers of splitmix64 from state 0.
TEST(Philox, FinalisesAsSplitmix64) {
  EXPECT_EQ(splitmix64Finalise(0x9E3779B97F4A7C15), 0xE220A8397B1DCDAFu);
  EXPECT_EQ(splitmix64Finalise(2 * 0x9E3779B97F4A7C15), 0x6E789E6AA1B965F4u);
}

// Seed 0 at site 1 has the key 0xE220A8397B1DCDAF: the low half comes first, and word 0 gives 24 bits.
TEST(Philox, DerivesTheKeyAndTheCounter) {
  uint32_t word = philox4x32({7, 0, 5, 0}, {0x7B1DCDAF, 0xE220A839})[0];
  EXPECT_EQ(uniformNumber(0, 1, 5, 0, 100, 7), (word >> 8) / 16777216.0);
  uint32_t high = philox4x32({0x80000001, 3, 5, 0}, {0x7B1DCDAF, 0xE220A839})[0];
  EXPECT_EQ(uniformNumber(0, 1, 5, 7, int64_t(1) << 31, 1), (high >> 8) / 16777216.0);
}

// Micro-batch 1 continues where micro-batch 0 ends, so that the split into micro-batches does not show.
TEST(Philox, NumbersTheElementsOfAllMicroBatches) {
  IrContext ir;
  const std::string text = "moe.random_uniform %0 {seed = 3 : i64, site = 4 : i64} : (tensor<2xi64>) -> ";
  auto run = [&](const std::string &type, int64_t update, int64_t microBatch) {
    std::vector<HostTensor> results = evaluate(ir, text + type, {HostTensor::ofInts({2}, {update, microBatch})});
    EXPECT_EQ(results.size(), 1u) << ir.messages();
    return results.at(0).floats;
  };
  std::vector<double> whole = run("tensor<2x15xf64>", 9, 0), first = run("tensor<3x5xf64>", 9, 0);
  std::vector<double> second = run("tensor<3x5xf64>", 9, 1);
  first.insert(first.end(), second.begin(), second.end());
  EXPECT_EQ(whole, first);
  EXPECT_NE(whole, run("tensor<2x15xf64>", 10, 0));
  EXPECT_EQ(std::set<double>(whole.begin(), whole.end()).size(), 30u);
  for (double number : whole) {
    EXPECT_GE(number, 0);
    EXPECT_LT(number, 1);
  }
}

// Mean 1/2 and a share of rate below rate, within five standard deviations of 10000 draws.
TEST(Philox, IsUniform) {
  double sum = 0, below = 0;
  for (int i = 0; i < 10000; ++i) {
    double number = uniformNumber(1, 2, 3, 0, 10000, i);
    sum += number;
    below += number < 0.1;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 5 * 0.2887 / 100);
  EXPECT_NEAR(below / 10000, 0.1, 5 * 0.3 / 100);
}

TEST(Philox, DecidesDropout) {
  IrContext ir;
  std::vector<HostTensor> results = evaluate(
      ir,
      "moe.dropout %0, %1 {rate = 0.25 : f64, seed = 3 : i64, site = 4 : i64} : (tensor<40xf64>, tensor<2xi64>) -> "
      "tensor<40xf64>",
      {HostTensor({40}, std::vector<double>(40, 3)), HostTensor::ofInts({2}, {9, 2})});
  ASSERT_EQ(results.size(), 1u) << ir.messages();
  int dropped = 0;
  for (int i = 0; i < 40; ++i) {
    bool drops = uniformNumber(3, 4, 9, 2, 40, i) < 0.25;
    EXPECT_DOUBLE_EQ(results[0].floats[i], drops ? 0 : 4);
    dropped += drops;
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, 40);
}

} // namespace
