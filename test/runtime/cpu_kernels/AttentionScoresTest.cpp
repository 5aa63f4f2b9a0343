//===- AttentionScoresTest.cpp - Windows, softcaps and sinks ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace moe;
using namespace moe::cpu;
using namespace moe::test;

namespace {

AttentionShape windowed(AttentionShape shape, int64_t window) {
  shape.window = window;
  return shape;
}

AttentionShape capped(AttentionShape shape, float softcap) {
  shape.softcap = softcap;
  return shape;
}

void compare(const AttentionShape &shape, bool withSinks = false) {
  expectReference(shape, randomInputs(shape, 7, withSinks));
}

// An edge of the window that is one off, at edges of tiles, groups and vectors; a first tile that starts too late.
TEST(AttentionScores, WindowOfAnyWidth) {
  for (int64_t length : {1, 17, 65, 200})
    for (int64_t window : {1, 2, 15, 16, 63, 64, 65, 100, 199, 1000})
      for (bool causal : {false, true})
        compare(windowed(shapeOf(2, length, length, 2, 1, 12, causal), window));
}

TEST(AttentionScores, WindowWithOtherNumbersOfKeys) {
  for (auto [queries, keys] : {std::pair{1, 255}, {17, 100}, {64, 128}, {65, 66}, {255, 3}, {200, 70}})
    for (int64_t window : {1, 7, 64, 80})
      for (bool causal : {false, true})
        compare(windowed(shapeOf(2, queries, keys, 2, 1, 12, causal), window));
}

// Padding inside and at the edge of the window, and queries whose whole window is padding.
TEST(AttentionScores, WindowBesidePadding) {
  for (int64_t window : {1, 20, 70})
    for (bool causal : {false, true}) {
      const AttentionShape shape = windowed(shapeOf(2, 150, 150, 2, 2, 9, causal, 0.2f), window);
      AttentionInputs inputs = randomInputs(shape, 3);
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t j = 0; j < 150; ++j)
          inputs.padding.push_back(b == 0 ? j % 3 == 1 : j >= 60 && j < 140);
      expectReference(shape, inputs);
    }
}

// Scores from far below to far above the cap: a tanh, or a slope of it, that is wrong anywhere between. (The slope at
// twenty times the cap has twenty times the rounding of a score: smaller caps are no task for float32.)
TEST(AttentionScores, Softcap) {
  for (float softcap : {0.2f, 1.0f, 3.0f, 50.0f})
    for (int64_t headDim : {1, 24, 64})
      for (bool causal : {false, true})
        compare(capped(shapeOf(1, 130, 130, 2, 1, headDim, causal), softcap));
}

// Errors of tanh near zero that vanish beside a small softcap are multiplied by a large one.
TEST(AttentionScores, LargeSoftcapIsNone) {
  const AttentionShape shape = shapeOf(1, 100, 100, 1, 1, 16, true);
  const AttentionInputs inputs = randomInputs(shape, 5);
  const AttentionOutputs expected = referenceAttention(shape, inputs, 0, 0);
  AttentionShape large = capped(shape, 1e4f);
  for (Isa isa : hostIsas()) {
    large.isa = isa;
    EXPECT_LE(relativeError(runKernels(large, inputs, 0, 0).out, expected.out), attentionTolerance);
    EXPECT_LE(relativeError(runKernels(large, inputs, 0, 0).dk, expected.dk), attentionTolerance);
  }
}

// A sink that belongs to another head, is missing from lse, or is forgotten where a query sees no key.
TEST(AttentionScores, Sinks) {
  for (int64_t length : {1, 65, 130})
    for (bool causal : {false, true})
      for (float dropout : {0.0f, 0.3f})
        compare(shapeOf(2, length, length, 4, 2, 12, causal, dropout), true);
  compare(shapeOf(1, 100, 30, 2, 1, 8, true), true);
}

TEST(AttentionScores, SinksOfAnySize) {
  const AttentionShape shape = shapeOf(1, 70, 70, 4, 1, 8, true);
  AttentionInputs inputs = randomInputs(shape, 2, true);
  inputs.sinks = {-std::numeric_limits<double>::infinity(), -100, 40, 0};
  expectReference(shape, inputs);
}

AttentionShape withEverything() {
  return capped(windowed(shapeOf(2, 140, 150, 6, 2, 20, true, 0.1f), 50), 2.0f);
}

TEST(AttentionScores, AllAtOnce) {
  AttentionInputs inputs = randomInputs(withEverything(), 4, true);
  inputs.padding.assign(300, 0);
  for (size_t j = 40; j < 60; ++j)
    inputs.padding[j] = inputs.padding[150 + 2 * j] = 1;
  expectReference(withEverything(), inputs);
}

// As of attention in general (AttentionTest): bfloat16 is float32 on the same numbers, rounded.
TEST(AttentionScores, Bfloat16IsFloat32Rounded) {
  AttentionShape narrow = withEverything(), wide = narrow;
  narrow.bf16 = true;
  const AttentionInputs inputs = randomInputs(narrow, 13, true);
  for (Isa isa : hostIsas()) {
    narrow.isa = wide.isa = isa;
    AttentionResults results = runKernels(wide, inputs, 1, 0, Split::Whole, toBfloat);
    for (std::vector<float> *values : {&results.dq, &results.dk, &results.dv})
      std::transform(values->begin(), values->end(), values->begin(), toBfloat);
    EXPECT_TRUE(sameBits(runKernels(narrow, inputs, 1, 0), results));
  }
}

TEST(AttentionScores, SplitAmongThreadsChangesNoBit) {
  AttentionShape shape = withEverything();
  const AttentionInputs inputs = randomInputs(shape, 11, true);
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    EXPECT_TRUE(
        sameBits(runKernels(shape, inputs, 1, 0, Split::Whole), runKernels(shape, inputs, 1, 0, Split::Singly)));
  }
}

// What is not there may not become a number on the way.
TEST(AttentionScores, NanStaysNan) {
  AttentionShape shape = capped(shapeOf(1, 20, 20, 1, 1, 4, false), 2.0f);
  AttentionInputs inputs = randomInputs(shape, 1);
  inputs.q[5 * 4] = std::nan("");
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    const AttentionResults results = runKernels(shape, inputs, 0, 0);
    EXPECT_TRUE(std::isnan(results.out[5 * 4]) && std::isnan(results.dk[0]));
    EXPECT_FALSE(std::isnan(results.out[6 * 4]));
  }
}

} // namespace
