//===- AttentionTest.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <tuple>

using namespace moe;
using namespace moe::cpu;
using namespace moe::test;

namespace {

void compare(const AttentionShape &shape) {
  expectReference(shape, randomInputs(shape, 7));
}

// Wrong block edges, vector tails and head strides.
TEST(Attention, EqualsReferenceAtOddSizes) {
  for (int64_t length : {1, 3, 16, 17, 64, 65, 255})
    for (int64_t headDim : {1, 3, 17, 24})
      for (bool causal : {false, true})
        compare(shapeOf(2, length, length, 3, 3, headDim, causal));
}

TEST(Attention, EqualsReferenceAtUsualHeadDimensions) {
  for (int64_t headDim : {16, 24, 64, 128, 255})
    compare(shapeOf(1, 130, 130, 2, 2, headDim, true));
}

// A wrong group of query heads, or key gradients that miss a head of the group.
TEST(Attention, GroupedQueries) {
  for (int64_t kvHeads : {1, 2, 3})
    for (bool causal : {false, true})
      compare(shapeOf(2, 70, 70, 6, kvHeads, 8, causal));
}

// A wrong offset of the diagonal: keys - queries, in both directions and away from multiples of a vector.
TEST(Attention, KeysAndQueriesDiffer) {
  for (auto [queries, keys] : {std::pair{1, 255}, {17, 100}, {64, 128}, {65, 66}, {128, 200}, {255, 3}})
    for (bool causal : {false, true})
      compare(shapeOf(2, queries, keys, 2, 1, 12, causal));
}

// A query before all keys: the reference's lse is -inf and its row zero; neighbours must stay untouched.
TEST(Attention, QueriesThatSeeNothing) {
  AttentionShape shape = shapeOf(1, 100, 30, 1, 1, 8, true);
  const AttentionInputs inputs = randomInputs(shape, 3);
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    const AttentionResults results = runKernels(shape, inputs, 0, 0);
    for (size_t i = 0; i < 70; ++i) {
      EXPECT_EQ(results.lse[i], -std::numeric_limits<float>::infinity());
      for (size_t d = 0; d < 8; ++d) {
        EXPECT_EQ(results.out[i * 8 + d], 0.0f);
        EXPECT_EQ(results.dq[i * 8 + d], 0.0f);
      }
    }
  }
  compare(shape);
}

// A mask of its own in one direction, or an element number without micro-batch, sequence, head or diagonal offset.
TEST(Attention, DropoutAgreesForwardAndBackward) {
  for (float dropout : {0.1f, 0.5f})
    for (bool causal : {false, true}) {
      compare(shapeOf(2, 67, 67, 4, 2, 8, causal, dropout));
      compare(shapeOf(2, 20, 90, 2, 2, 24, causal, dropout));
    }
}

TEST(Attention, DropoutDependsOnUpdateAndMicroBatch) {
  const AttentionShape shape = shapeOf(1, 16, 16, 1, 1, 8, false, 0.5f);
  const AttentionInputs inputs = randomInputs(shape, 1);
  const AttentionResults base = runKernels(shape, inputs, 5, 2);
  EXPECT_TRUE(sameBits(base.out, runKernels(shape, inputs, 5, 2).out));
  EXPECT_FALSE(sameBits(base.out, runKernels(shape, inputs, 6, 2).out));
  EXPECT_FALSE(sameBits(base.out, runKernels(shape, inputs, 5, 3).out));
}

// With v = 1 an output is the sum of the kept weights / (1 - p), of mean 1. With q = 0 all 1024 weights are equal, so
// that the standard error of the mean over 64 * 1024 of them is sqrt(p / (1 - p) / 65536).
TEST(Attention, DropoutKeepsTheMean) {
  const AttentionShape shape = shapeOf(1, 64, 1024, 1, 1, 1, false, 0.25f);
  AttentionInputs inputs = randomInputs(shape, 1);
  std::fill(inputs.q.begin(), inputs.q.end(), 0);
  std::fill(inputs.v.begin(), inputs.v.end(), 1);
  const AttentionResults results = runKernels(shape, inputs, 0, 0);
  double mean = 0;
  for (float value : results.out)
    mean += double(value) / 64;
  EXPECT_NEAR(mean, 1.0, 4 * std::sqrt(1.0 / 3 / 65536));
  EXPECT_NE(mean, 1.0);
}

// State that leaks from one item to the next, or two items that write to one place.
TEST(Attention, SplitAmongThreadsChangesNoBit) {
  for (float dropout : {0.0f, 0.3f}) {
    AttentionShape shape = shapeOf(3, 150, 170, 4, 2, 20, true, dropout);
    const AttentionInputs inputs = randomInputs(shape, 11);
    for (Isa isa : hostIsas()) {
      shape.isa = isa;
      SCOPED_TRACE(describe(shape));
      const AttentionResults whole = runKernels(shape, inputs, 1, 0, Split::Whole);
      const AttentionResults singly = runKernels(shape, inputs, 1, 0, Split::Singly);
      EXPECT_TRUE(sameBits(whole, singly));
    }
  }
}

// A thread that works in another's scratch: no sequential run shows it otherwise.
TEST(Attention, ThreadsKeepToTheirScratch) {
  AttentionShape shape = shapeOf(1, 70, 70, 1, 1, 17, true, 0.1f);
  const std::vector<float> input(size_t(70 * 17), 0.5f);
  std::vector<float> out(input.size()), dq(input.size()), dk(input.size()), dv(input.size()), lse(70);
  const int64_t rng[2] = {0, 0};
  for (Isa isa : hostIsas())
    for (bool backward : {false, true}) {
      shape.isa = isa;
      const size_t floats = attentionScratchBytes(shape, 1, backward) / sizeof(float);
      ASSERT_EQ(attentionScratchBytes(shape, 3, backward), 3 * floats * sizeof(float));
      std::unique_ptr<float, decltype(&std::free)> scratch(
          static_cast<float *>(std::aligned_alloc(64, 3 * floats * sizeof(float))), &std::free);
      std::fill_n(scratch.get(), 3 * floats, -7.0f);
      if (backward)
        attentionBackward(shape,
                          {.dout = input.data(),
                           .q = input.data(),
                           .k = input.data(),
                           .v = input.data(),
                           .out = out.data(),
                           .lse = lse.data(),
                           .rng = rng,
                           .dq = dq.data(),
                           .dk = dk.data(),
                           .dv = dv.data(),
                           .scratch = scratch.get()},
                          0, attentionItems(shape, true), 1);
      else
        attentionForward(shape,
                         {.q = input.data(),
                          .k = input.data(),
                          .v = input.data(),
                          .rng = rng,
                          .out = out.data(),
                          .lse = lse.data(),
                          .scratch = scratch.get()},
                         0, attentionItems(shape, false), 1);
      for (size_t i = 0; i < floats; ++i) {
        ASSERT_EQ(scratch.get()[i], -7.0f) << "of thread 0";
        ASSERT_EQ(scratch.get()[2 * floats + i], -7.0f) << "of thread 2";
      }
      EXPECT_NE(scratch.get()[floats], -7.0f);
    }
}

// Scores of some thousands overflow exp unless the maximum is subtracted, also when it rises from block to block.
TEST(Attention, LargeScores) {
  AttentionShape shape = shapeOf(1, 200, 200, 1, 1, 4, true);
  shape.scale = 1.0f;
  AttentionInputs inputs = randomInputs(shape, 2);
  for (size_t i = 0; i < 200; ++i)
    for (size_t d = 0; d < 4; ++d) {
      inputs.q[i * 4 + d] = d == 0 ? 30 : 0;
      inputs.k[i * 4 + d] = d == 0 ? double(i) : 0;
    }
  const AttentionOutputs expected = referenceAttention(shape, inputs, 0, 0);
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    const AttentionResults results = runKernels(shape, inputs, 0, 0);
    EXPECT_LE(relativeError(results.out, expected.out), 1e-4); // scores of 6e3 carry an error of 3e-4
    EXPECT_LE(relativeError(results.lse, expected.lse), attentionTolerance);
    for (float value : results.dq)
      EXPECT_TRUE(std::isfinite(value));
  }
}

// A NaN that a maximum or an exponential swallows would train on.
TEST(Attention, NaNSurvives) {
  AttentionShape shape = shapeOf(1, 40, 40, 1, 1, 8, true);
  AttentionInputs inputs = randomInputs(shape, 2);
  inputs.k[20 * 8 + 3] = std::numeric_limits<double>::quiet_NaN();
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    const AttentionResults results = runKernels(shape, inputs, 0, 0);
    for (size_t i = 0; i < 40; ++i) {
      EXPECT_EQ(std::isnan(results.out[i * 8]), i >= 20) << i;
      EXPECT_EQ(std::isnan(results.dq[i * 8]), i >= 20) << i;
    }
  }
}

// A dispatch table whose rows are swapped: fused and separate rounding differ somewhere in a thousand sums.
TEST(Attention, IsaIsHonoured) {
  AttentionShape shape = shapeOf(1, 64, 64, 1, 1, 24, false);
  const AttentionInputs inputs = randomInputs(shape, 4);
  shape.isa = Isa::Baseline;
  const AttentionResults baseline = runKernels(shape, inputs, 0, 0);
  if (hostIsa() == Isa::Baseline)
    GTEST_SKIP() << "this processor has one level only";
  shape.isa = Isa::V3;
  EXPECT_FALSE(sameBits(baseline.out, runKernels(shape, inputs, 0, 0).out));
}

// bfloat16 is that of float32 on the same numbers, rounded. The gradient reads the rounded output, so that of float32
// is given it by rounding what its forward made. A wrong stride of widened keys, or a result rounded twice or to zero.
TEST(Attention, Bfloat16IsFloat32Rounded) {
  for (auto [queries, keys, headDim] : {std::tuple{70, 70, 17}, {64, 200, 64}, {3, 5, 1}, {130, 130, 6}})
    for (float dropout : {0.0f, 0.3f}) {
      AttentionShape shape = shapeOf(2, queries, keys, 4, 2, headDim, true, dropout);
      shape.bf16 = true;
      const AttentionInputs inputs = randomInputs(shape, 13);
      const AttentionOutputs exact = referenceAttention(shape, inputs, 1, 0);
      for (Isa isa : hostIsas()) {
        shape.isa = isa;
        SCOPED_TRACE(describe(shape));
        const AttentionResults narrow = runKernels(shape, inputs, 1, 0);
        AttentionShape wideShape = shape;
        wideShape.bf16 = false;
        AttentionResults wide = runKernels(wideShape, inputs, 1, 0, Split::Whole, toBfloat);
        for (std::vector<float> *values : {&wide.dq, &wide.dk, &wide.dv})
          std::transform(values->begin(), values->end(), values->begin(), toBfloat);
        EXPECT_TRUE(sameBits(narrow, wide));
        EXPECT_LE(relativeError(narrow.out, exact.out), 0x1p-8);
        EXPECT_LE(relativeError(narrow.dq, exact.dq), 0x1p-7);
        EXPECT_LE(relativeError(narrow.dk, exact.dk), 0x1p-7);
        EXPECT_LE(relativeError(narrow.dv, exact.dv), 0x1p-8);
      }
    }
}

TEST(Isa, FromFeatures) {
  std::vector<std::string_view> features = {"sse4.2", "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt"};
  EXPECT_EQ(isaFromFeatures(features), Isa::Baseline);
  features.push_back("movbe");
  EXPECT_EQ(isaFromFeatures(features), Isa::V3);
  features.insert(features.end(), {"avx512f", "avx512bw", "avx512cd", "avx512dq"});
  EXPECT_EQ(isaFromFeatures(features), Isa::V3);
  features.push_back("avx512vl");
  EXPECT_EQ(isaFromFeatures(features), Isa::V4);
  EXPECT_EQ(name(Isa::V4), "x86-64-v4");
}

} // namespace
