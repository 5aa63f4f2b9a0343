//===- AttentionPaddingTest.cpp - Keys that are hidden from all queries -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

using namespace moe;
using namespace moe::cpu;
using namespace moe::test;

namespace {

/// Inputs whose key j of sequence b is padding where `hides(b, j)`.
AttentionInputs padded(const AttentionShape &shape, const std::function<bool(int64_t, int64_t)> &hides) {
  AttentionInputs inputs = randomInputs(shape, 7);
  for (int64_t b = 0; b < shape.batch; ++b)
    for (int64_t j = 0; j < shape.keys; ++j)
      inputs.padding.push_back(hides(b, j));
  return inputs;
}

// A column that takes the padding of another row, block or sequence; softmax statistics of hidden keys.
TEST(AttentionPadding, ScatteredKeys) {
  for (int64_t length : {1, 3, 16, 17, 64, 65, 130, 255})
    for (bool causal : {false, true})
      for (double share : {0.1, 0.9}) {
        std::mt19937 generator(3);
        std::bernoulli_distribution hides(share);
        const AttentionShape shape = shapeOf(3, length, length, 4, 2, 12, causal);
        expectReference(shape, padded(shape, [&](int64_t, int64_t) { return hides(generator); }));
      }
}

// Batches as they occur, sequence b with its own length: padding behind the tokens (whole hidden blocks, which are left
// out, and one in part) or before them (queries that see no key if causal). The last sequence is all padding.
TEST(AttentionPadding, TailsAndHeadsOfSequences) {
  for (int64_t headDim : {1, 17, 24})
    for (bool causal : {false, true})
      for (int64_t tokens : {1, 60, 64, 65, 200}) {
        const AttentionShape shape = shapeOf(4, 200, 200, 2, 1, headDim, causal);
        auto length = [&](int64_t b) { return b == 0 ? 200 : b == 3 ? 0 : b == 1 ? tokens : 200 - tokens / 2; };
        expectReference(shape, padded(shape, [&](int64_t b, int64_t j) { return j >= length(b); }));
        expectReference(shape, padded(shape, [&](int64_t b, int64_t j) { return 199 - j >= length(b); }));
      }
}

// Padding numbered by queries instead of keys; the diagonal of causal attention beside that of padding.
TEST(AttentionPadding, KeysAndQueriesDiffer) {
  for (auto [queries, keys] : {std::pair{1, 255}, {17, 100}, {64, 128}, {128, 200}, {200, 70}})
    for (bool causal : {false, true}) {
      const AttentionShape shape = shapeOf(3, queries, keys, 2, 2, 9, causal);
      expectReference(shape, padded(shape, [&](int64_t b, int64_t j) { return (j + b) % 3 == 1 || j < b * 5; }));
    }
}

// Elements of dropout keep the numbers that they have without padding.
TEST(AttentionPadding, WithDropout) {
  for (bool causal : {false, true}) {
    const AttentionShape shape = shapeOf(2, 70, 150, 4, 2, 8, causal, 0.3f);
    expectReference(shape, padded(shape, [&](int64_t b, int64_t j) { return b == 1 && (j < 75 || j % 7 == 2); }));
  }
}

// Exact zeros, not the rounding errors of weights that should not be: out, dq of queries that see no key; dk, dv of
// hidden keys; lse of -inf. Queries before the first visible key see none.
TEST(AttentionPadding, WhatSeesNothingIsZero) {
  constexpr int64_t T = 100, D = 8, first = 70;
  AttentionShape shape = shapeOf(2, T, T, 1, 1, D, true);
  const AttentionInputs inputs = padded(shape, [&](int64_t b, int64_t j) { return b == 0 || j < first; });
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    SCOPED_TRACE(describe(shape));
    const AttentionResults results = runKernels(shape, inputs, 0, 0);
    for (int64_t i = 0; i < 2 * T; ++i) {
      const bool blind = i < T + first;
      EXPECT_EQ(results.lse[size_t(i)] == -std::numeric_limits<float>::infinity(), blind) << i;
      for (const std::vector<float> *values : {&results.out, &results.dq, &results.dk, &results.dv}) {
        if (!blind)
          continue;
        for (int64_t d = 0; d < D; ++d)
          EXPECT_EQ((*values)[size_t(i * D + d)], 0.0f) << i;
      }
    }
  }
}

// A sequence without padding must not pay for an operand that others need: the same bits, also where another sequence
// of the batch has padding.
TEST(AttentionPadding, WithoutPaddingNoBitChanges) {
  for (bool causal : {false, true})
    for (float dropout : {0.0f, 0.2f}) {
      AttentionShape shape = shapeOf(2, 150, 170, 4, 2, 20, causal, dropout);
      AttentionInputs inputs = randomInputs(shape, 7);
      for (Isa isa : hostIsas()) {
        shape.isa = isa;
        SCOPED_TRACE(describe(shape));
        inputs.padding.clear();
        AttentionResults maskless = runKernels(shape, inputs, 1, 0);
        inputs.padding.assign(size_t(shape.batch * shape.keys), 0);
        EXPECT_TRUE(sameBits(maskless, runKernels(shape, inputs, 1, 0)));
        inputs.padding[size_t(shape.keys + 20)] = 1;
        AttentionResults second = runKernels(shape, inputs, 1, 0);
        EXPECT_FALSE(sameBits(maskless, second));
        for (AttentionResults *results : {&maskless, &second})
          for (std::vector<float> *values : {&results->out, &results->lse, &results->dq, &results->dk, &results->dv})
            values->resize(values->size() / 2);
        EXPECT_TRUE(sameBits(maskless, second));
      }
    }
}

// What lies under padding (numbers that other layers made of padding tokens) shows nowhere, and any byte but 0 hides.
TEST(AttentionPadding, HiddenNumbersDoNotMatter) {
  AttentionShape shape = shapeOf(2, 100, 150, 2, 2, 8, true, 0.2f);
  AttentionInputs inputs = padded(shape, [&](int64_t b, int64_t j) { return j % 5 == b || j > 120; });
  AttentionInputs other = inputs;
  const size_t row = size_t(shape.kvHeads * shape.headDim);
  for (size_t i = 0; i < other.k.size(); ++i)
    if (other.padding[i / row] != 0) {
      other.k[i] = 1e4;
      other.v[i] = -1e4;
    }
  for (uint8_t &byte : other.padding)
    byte *= 255;
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    SCOPED_TRACE(describe(shape));
    EXPECT_TRUE(sameBits(runKernels(shape, inputs, 1, 0), runKernels(shape, other, 1, 0)));
  }
}

// Flags of one tile that another item or thread sees.
TEST(AttentionPadding, SplitAmongThreadsChangesNoBit) {
  AttentionShape shape = shapeOf(3, 150, 170, 4, 2, 20, true);
  const AttentionInputs inputs = padded(shape, [&](int64_t b, int64_t j) { return j < 40 * b || j % 11 == b; });
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    SCOPED_TRACE(describe(shape));
    EXPECT_TRUE(sameBits(runKernels(shape, inputs, 1, 0), runKernels(shape, inputs, 1, 0, Split::Singly)));
  }
}

} // namespace
