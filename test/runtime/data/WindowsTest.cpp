//===- WindowsTest.cpp - Samples and batches ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Windows.h"
#include "runtime/data/TokenBatch.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"

#include <gtest/gtest.h>
#include <numeric>
#include <set>

using namespace moe;
using test::TemporaryFolder;

/// Text whose byte i has the value i mod 251, so that a token says where it is from.
static std::shared_ptr<const TokenFile> counting(const TemporaryFolder &folder, size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i)
    text[i] = char(i % 251);
  return std::make_shared<const TokenFile>(std::move(*TokenFile::open(folder.write("text", text), 260)));
}

static std::vector<int64_t> window(const Windows &windows, int64_t index) {
  std::vector<int64_t> tokens(size_t(windows.length()) + 1);
  EXPECT_TRUE(windows.read(index, tokens));
  return tokens;
}

// Window i starts at i * length and shares one token with the next; a remainder shorter than a window is left out.
TEST(Windows, AreConsecutive) {
  TemporaryFolder folder;
  auto tokens = counting(folder, 47);
  Windows windows = *Windows::create(tokens, 3, 47, 10);
  ASSERT_EQ(windows.count(), 4); // 44 tokens: the fifth window would need 51
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<int64_t> expected(11);
    std::iota(expected.begin(), expected.end(), 3 + i * 10 + 4);
    EXPECT_EQ(window(windows, i), expected);
  }
  EXPECT_EQ(Windows::create(tokens, 0, 41, 10)->count(), 4);
  EXPECT_EQ(Windows::create(tokens, 0, 40, 10)->count(), 3);
  EXPECT_EQ(Windows::create(tokens, 0, 11, 10)->count(), 1);
}

TEST(Windows, RefuseDataShorterThanASample) {
  TemporaryFolder folder;
  auto windows = Windows::create(counting(folder, 47), 0, 10, 10);
  ASSERT_FALSE(windows);
  EXPECT_NE(windows.error().why.find("takes 11 tokens, this part of the file has 10"), std::string::npos);
  EXPECT_FALSE(Windows::create(counting(folder, 47), 0, 47, 0));
}

// A token that is in both parts would leak held-out text into training.
TEST(Windows, SplitSharesNoToken) {
  TemporaryFolder folder;
  auto tokens = counting(folder, 200);
  DataSplit split = *splitTokens(tokens, 0.25, 7);
  ASSERT_TRUE(split.valid);
  EXPECT_EQ(split.train->count(), 21); // 150 tokens
  EXPECT_EQ(split.valid->count(), 7);  // 50 tokens
  EXPECT_EQ(window(*split.train, 20).back(), 147 + 4);
  EXPECT_EQ(window(*split.valid, 0).front(), 150 + 4);
  EXPECT_FALSE(splitTokens(tokens, 0, 7)->valid);
  auto problem = splitTokens(tokens, 0.01, 7);
  ASSERT_FALSE(problem);
  EXPECT_NE(problem.error().what.find("held-out"), std::string::npos);
}

// Each epoch holds every window once, two epochs differ, and a seek continues exactly.
TEST(ShuffledSamples, CoverEveryEpochOnce) {
  TemporaryFolder folder;
  Windows windows = *Windows::create(counting(folder, 211), 0, 211, 7); // 30 windows
  ShuffledSamples samples(windows, 11);
  std::vector<std::vector<int64_t>> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order;
    for (int i = 0; i < 30; ++i) {
      EXPECT_EQ(samples.epoch(), epoch);
      std::vector<int64_t> tokens(8);
      ASSERT_TRUE(samples.read(tokens));
      order.push_back((tokens[0] - 4) / 7);
    }
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 30u);
    epochs.push_back(order);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  ShuffledSamples resumed(windows, 11);
  resumed.seek(37);
  std::vector<int64_t> tokens(8);
  ASSERT_TRUE(resumed.read(tokens));
  EXPECT_EQ((tokens[0] - 4) / 7, epochs[1][7]);
  EXPECT_EQ(resumed.position(), 38);
}

TEST(TokenBatch, WritesInputAndShiftedLabels) {
  for (plan::DType type : {plan::I64, plan::I32}) {
    test::FakeSession session({.batch = 2, .length = 3, .accumulate = 2, .tokenType = type});
    TokenBatch batch = *TokenBatch::create(session);
    const std::vector<int64_t> tokens = {10, 11, 12, 13};
    batch.write(1, 1, tokens);
    EXPECT_EQ(session.staged("input_ids", 1), (std::vector<int64_t>{0, 0, 0, 10, 11, 12}));
    EXPECT_EQ(session.staged("labels", 1), (std::vector<int64_t>{0, 0, 0, 11, 12, 13}));
    EXPECT_EQ(session.staged("labels", 0), std::vector<int64_t>(6, 0));
    batch.pad(0, 0, 1);
    EXPECT_EQ(session.staged("labels", 0), (std::vector<int64_t>{1, 1, 1, 0, 0, 0}));
  }
}

TEST(TokenBatch, NamesInputsThatTextCannotFill) {
  test::FakeSession session({});
  plan::Input &mask = *session.mutablePlan().add_inputs();
  mask.set_name("attention_mask");
  auto batch = TokenBatch::create(session);
  ASSERT_FALSE(batch);
  EXPECT_EQ(batch.error().where, "attention_mask");
}
