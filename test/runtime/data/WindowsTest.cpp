//===- WindowsTest.cpp - Samples and batches ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Windows.h"
#include "runtime/data/InputBatch.h"
#include "runtime/data/ShuffledSamples.h"
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

static std::vector<int64_t> window(const SampleSource &windows, int64_t index) {
  Sample sample;
  EXPECT_TRUE(windows.read(index, sample));
  EXPECT_EQ(sample.columns[1].kind, Sample::Column::Kind::Absent);
  return sample.columns[0].tokens;
}

/// The columns of a model that reads `length` tokens and as many labels.
static StreamColumns columns(int64_t length) {
  test::FakeSession session({.length = length});
  return *StreamColumns::create(*ModelInputs::describe(session.plan()));
}

// Window i starts at i * length and shares one token with the next; a remainder shorter than a window is left out.
TEST(Windows, AreConsecutive) {
  TemporaryFolder folder;
  auto tokens = counting(folder, 47);
  auto made = *Windows::create(tokens, 3, 47, columns(10));
  const Windows &windows = *made;
  ASSERT_EQ(windows.count(), 4); // 44 tokens: the fifth window would need 51
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<int64_t> expected(11);
    std::iota(expected.begin(), expected.end(), 3 + i * 10 + 4);
    EXPECT_EQ(window(windows, i), expected);
  }
  EXPECT_EQ(Windows::create(tokens, 0, 41, columns(10)).value()->count(), 4);
  EXPECT_EQ(Windows::create(tokens, 0, 40, columns(10)).value()->count(), 3);
  EXPECT_EQ(Windows::create(tokens, 0, 11, columns(10)).value()->count(), 1);
}

TEST(Windows, RefuseDataShorterThanASample) {
  TemporaryFolder folder;
  auto windows = Windows::create(counting(folder, 47), 0, 10, columns(10));
  ASSERT_FALSE(windows);
  EXPECT_NE(windows.error().why.find("takes 11 tokens, this part of the file has 10"), std::string::npos);
}

// A token that is in both parts would leak held-out text into training.
TEST(Windows, SplitSharesNoToken) {
  TemporaryFolder folder;
  auto tokens = counting(folder, 200);
  DataSplit split = *splitTokens(tokens, 0.25, columns(7));
  ASSERT_TRUE(split.valid);
  EXPECT_EQ(split.train->count(), 21); // 150 tokens
  EXPECT_EQ(split.valid->count(), 7);  // 50 tokens
  EXPECT_EQ(window(*split.train, 20).back(), 147 + 4);
  EXPECT_EQ(window(*split.valid, 0).front(), 150 + 4);
  EXPECT_FALSE(splitTokens(tokens, 0, columns(7))->valid);
  auto problem = splitTokens(tokens, 0.01, columns(7));
  ASSERT_FALSE(problem);
  EXPECT_NE(problem.error().what.find("held-out"), std::string::npos);
}

// Each epoch holds every window once, two epochs differ, and a seek continues exactly.
TEST(ShuffledSamples, CoverEveryEpochOnce) {
  TemporaryFolder folder;
  auto windows = *Windows::create(counting(folder, 211), 0, 211, columns(7)); // 30 windows
  ShuffledSamples samples(windows, 11);
  std::vector<std::vector<int64_t>> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<int64_t> order;
    for (int i = 0; i < 30; ++i) {
      EXPECT_EQ(samples.epoch(), epoch);
      Sample sample;
      ASSERT_TRUE(samples.read(sample));
      order.push_back((sample.columns[0].tokens[0] - 4) / 7);
    }
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 30u);
    epochs.push_back(order);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  ShuffledSamples resumed(windows, 11);
  resumed.seek(37);
  Sample sample;
  ASSERT_TRUE(resumed.read(sample));
  EXPECT_EQ((sample.columns[0].tokens[0] - 4) / 7, epochs[1][7]);
  EXPECT_EQ(resumed.position(), 38);
  // In the order of the file, in every epoch.
  ShuffledSamples plain(windows, 11, /*inOrder=*/true);
  plain.seek(29);
  for (int64_t expected : {29, 0, 1}) {
    ASSERT_TRUE(plain.read(sample));
    EXPECT_EQ((sample.columns[0].tokens[0] - 4) / 7, expected);
  }
}

// Another input of tokens does not follow from a stream; a mask does.
TEST(Windows, NameInputsThatAStreamCannotFill) {
  test::FakeSession session({});
  for (const char *name : {"attention_mask", "decoder_input_ids"}) {
    plan::Input &input = *session.mutablePlan().add_inputs();
    input = session.plan().inputs(0);
    input.set_name(name);
  }
  auto stream = StreamColumns::create(*ModelInputs::describe(session.plan()));
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().where, "input_ids");
  session.mutablePlan().mutable_inputs()->RemoveLast();
  EXPECT_TRUE(StreamColumns::create(*ModelInputs::describe(session.plan())));
}
