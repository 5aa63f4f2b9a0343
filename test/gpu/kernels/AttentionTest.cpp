//===- AttentionTest.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Against the float64 reference of the CPU kernels' tests.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Attention.h"

#include "runtime/cuda/Scratch.h"
#include "test/gpu/kernels/Simulate.h"
#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <bit>
#include <cmath>

using namespace moe;
using namespace moe::test;
using cuda::Element;

namespace {

constexpr int64_t kUpdate = 5, kMicroBatch = 2;

/// The nearest bfloat16, by arithmetic: eight significant bits.
float nearestBf16(float value) {
  if (value == 0.0f || !std::isfinite(value))
    return value;
  const int exponent = std::ilogb(value) - 7;
  return float(std::ldexp(std::nearbyint(std::ldexp(double(value), -exponent)), exponent));
}

/// A tensor as the device holds it.
std::vector<unsigned char> pack(const std::vector<double> &values, Element element) {
  std::vector<unsigned char> bytes;
  for (double value : values) {
    const auto bits = std::bit_cast<uint32_t>(float(value));
    for (int shift = element == Element::Bf16 ? 16 : 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<unsigned char>(bits >> shift));
  }
  return bytes;
}

std::vector<float> unpack(const std::vector<unsigned char> &bytes, Element element) {
  const size_t size = element == Element::Bf16 ? 2 : 4;
  std::vector<float> values;
  for (size_t at = 0; at < bytes.size(); at += size) {
    uint32_t bits = 0;
    for (size_t i = 0; i < size; ++i)
      bits |= uint32_t{bytes[at + i]} << (32 - 8 * size + 8 * i);
    values.push_back(std::bit_cast<float>(bits));
  }
  return values;
}

struct DeviceResults : AttentionResults {
  bool operator==(const DeviceResults &other) const { return sameBits(*this, other); }
};

DeviceResults onDevice(const cpu::AttentionShape &s, const AttentionInputs &inputs, Element element,
                       int64_t update = kUpdate, int64_t microBatch = kMicroBatch) {
  const cuda::AttentionShape shape{s, element};
  plan::Attention step;
  step.set_backward(true);
  step.set_batch(s.batch);
  step.set_heads(s.heads);
  step.set_queries(s.queries);
  const auto q = pack(inputs.q, element), k = pack(inputs.k, element), v = pack(inputs.v, element),
             dout = pack(inputs.dout, element), sinks = pack(inputs.sinks, element);
  const uint8_t *padding = inputs.padding.empty() ? nullptr : inputs.padding.data();
  const std::vector<int64_t> rng = {update, microBatch};
  return simulate([&] {
    auto out = unwritten<unsigned char>(q.size()), dq = out, dk = unwritten<unsigned char>(k.size()), dv = dk;
    auto lse = unwritten<float>(size_t(s.batch * s.heads * s.queries));
    auto scratch = unwritten<unsigned char>(cuda::attentionScratchBytes(step));
    EXPECT_EQ(cuda::attentionForward(shape,
                                     {.q = q.data(),
                                      .k = k.data(),
                                      .v = v.data(),
                                      .padding = padding,
                                      .rng = s.dropout > 0 ? rng.data() : nullptr,
                                      .sinks = sinks.empty() ? nullptr : sinks.data(),
                                      .out = out.data(),
                                      .lse = lse.data()},
                                     nullptr),
              cudaSuccess);
    EXPECT_EQ(cuda::attentionBackward(shape,
                                      {.dout = dout.data(),
                                       .q = q.data(),
                                       .k = k.data(),
                                       .v = v.data(),
                                       .out = out.data(),
                                       .lse = lse.data(),
                                       .padding = padding,
                                       .rng = s.dropout > 0 ? rng.data() : nullptr,
                                       .dq = dq.data(),
                                       .dk = dk.data(),
                                       .dv = dv.data(),
                                       .scratch = scratch.data()},
                                      nullptr),
              cudaSuccess);
    wait();
    DeviceResults r;
    r.out = unpack(out, element);
    r.lse = lse;
    r.dq = unpack(dq, element);
    r.dk = unpack(dk, element);
    r.dv = unpack(dv, element);
    return r;
  });
}

void expectNear(const AttentionResults &results, const AttentionOutputs &expected, double tolerance) {
  EXPECT_LT(relativeError(results.out, expected.out), tolerance);
  EXPECT_LT(relativeError(results.lse, expected.lse), tolerance);
  EXPECT_LT(relativeError(results.dq, expected.dq), tolerance);
  EXPECT_LT(relativeError(results.dk, expected.dk), tolerance);
  EXPECT_LT(relativeError(results.dv, expected.dv), tolerance);
}

/// The largest error of an element, in units of the largest element.
double largestError(const std::vector<float> &results, const std::vector<double> &expected) {
  double error = 0.0, largest = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error = std::max(error, std::abs(double(results[i]) - expected[i]));
    largest = std::max(largest, std::abs(expected[i]));
  }
  return largest == 0.0 ? error : error / largest;
}

/// Whether tensor cores compute it in bfloat16.
bool hasTensorCoreKernel(const cpu::AttentionShape &shape) {
  return shape.headDim % 8 == 0 && shape.headDim <= 128;
}

AttentionInputs roundToBf16(AttentionInputs inputs) {
  for (auto *values : {&inputs.q, &inputs.k, &inputs.v, &inputs.dout, &inputs.sinks})
    for (double &value : *values)
      value = double(nearestBf16(float(value)));
  return inputs;
}

/// Weights and score gradients are rounded to 2^-9 before they are multiplied, the results again.
void compareBf16(const cpu::AttentionShape &shape, const AttentionInputs &inputs) {
  SCOPED_TRACE("bfloat16");
  const AttentionInputs rounded = roundToBf16(inputs);
  const DeviceResults results = onDevice(shape, rounded, Element::Bf16);
  const AttentionOutputs expected = referenceAttention(shape, rounded, kUpdate, kMicroBatch);
  expectNear(results, expected, 6e-3);
  EXPECT_LT(relativeError(results.lse, expected.lse), 2e-6);
  EXPECT_LT(largestError(results.out, expected.out), 1e-2);
  EXPECT_LT(largestError(results.dq, expected.dq), 1e-2);
  EXPECT_LT(largestError(results.dk, expected.dk), 1e-2);
  EXPECT_LT(largestError(results.dv, expected.dv), 1e-2);
}

void compare(const cpu::AttentionShape &shape, const AttentionInputs &inputs) {
  SCOPED_TRACE(describe(shape));
  expectNear(onDevice(shape, inputs, Element::Float32), referenceAttention(shape, inputs, kUpdate, kMicroBatch),
             attentionTolerance);
  if (hasTensorCoreKernel(shape))
    compareBf16(shape, inputs);
}

void compare(const cpu::AttentionShape &shape, bool withSinks = false) {
  compare(shape, randomInputs(shape, 7, withSinks));
}

// Wrong edges of tiles and chunks, head strides.
TEST(CudaAttention, OddSizes) {
  for (int64_t length : {1, 3, 17, 64, 65})
    for (int64_t headDim : {1, 17, 33, 40})
      for (bool causal : {false, true})
        compare(shapeOf(2, length, length, 3, 3, headDim, causal));
  compare(shapeOf(1, 255, 255, 1, 1, 24, true));
}

TEST(CudaAttention, HeadDimensions) {
  for (int64_t headDim : {32, 64, 65, 96, 128, 129, 255})
    compare(shapeOf(1, 80, 80, 2, 1, headDim, true));
}

// A wrong group of query heads, or key gradients that miss a head of the group.
TEST(CudaAttention, GroupedQueries) {
  for (int64_t kvHeads : {1, 2, 3})
    for (bool causal : {false, true})
      compare(shapeOf(2, 70, 70, 6, kvHeads, 8, causal));
}

// A wrong offset of the diagonal. With fewer keys than queries, early queries see nothing.
TEST(CudaAttention, KeysAndQueriesDiffer) {
  for (auto [queries, keys] : {std::pair{1, 255}, {17, 100}, {64, 128}, {65, 66}, {128, 200}, {150, 3}})
    for (bool causal : {false, true})
      compare(shapeOf(2, queries, keys, 2, 1, 12, causal));
}

TEST(CudaAttention, QueriesThatSeeNothing) {
  const cpu::AttentionShape shape = shapeOf(1, 100, 30, 1, 1, 8, true);
  for (Element element : {Element::Float32, Element::Bf16}) {
    const DeviceResults results = onDevice(shape, randomInputs(shape, 3), element);
    for (size_t i = 0; i < 70; ++i) {
      ASSERT_EQ(results.lse[i], -INFINITY);
      for (size_t d = 0; d < 8; ++d) {
        ASSERT_EQ(results.out[i * 8 + d], 0.0f);
        ASSERT_EQ(results.dq[i * 8 + d], 0.0f);
      }
    }
  }
}

// Keys hidden one by one, whole tiles of them, a whole sequence.
TEST(CudaAttention, Padding) {
  for (bool causal : {false, true}) {
    const cpu::AttentionShape shape = shapeOf(4, 140, 140, 2, 1, 16, causal, 0.1f);
    AttentionInputs inputs = randomInputs(shape, 9);
    inputs.padding.assign(4 * 140, 0);
    for (size_t key = 0; key < 140; ++key) {
      inputs.padding[key] = key % 3 == 1;
      inputs.padding[140 + key] = key >= 64;
      inputs.padding[280 + key] = key < 70;
      inputs.padding[420 + key] = 2;
    }
    compare(shape, inputs);
    const DeviceResults results = onDevice(shape, inputs, Element::Float32);
    const size_t values = 140 * 2 * 16;
    for (size_t i = 3 * values; i < 4 * values; ++i)
      ASSERT_EQ(results.out[i], 0.0f);
    for (size_t i = 3 * 140 * 2; i < 4 * 140 * 2; ++i)
      ASSERT_EQ(results.lse[i], -INFINITY);
  }
}

// Another mask than the reference's, in one of three kernels.
TEST(CudaAttention, Dropout) {
  for (float dropout : {0.1f, 0.5f})
    for (bool causal : {false, true}) {
      compare(shapeOf(2, 67, 67, 4, 2, 8, causal, dropout));
      compare(shapeOf(2, 20, 90, 2, 2, 24, causal, dropout));
    }
}

// An edge of the window that is one off, in one of three kernels; a tile left out that is seen in part, or in one
// element (by queries if the window is 2 more than a multiple of their block).
TEST(CudaAttention, Windows) {
  for (auto [queries, keys] : {std::pair{65, 65}, {140, 140}, {64, 128}, {150, 40}})
    for (int64_t window : {1, 2, 34, 64, 66, 100})
      for (bool causal : {false, true}) {
        cpu::AttentionShape shape = shapeOf(1, queries, keys, 2, 1, 8, causal);
        shape.window = window;
        compare(shape);
      }
}

TEST(CudaAttention, Softcaps) {
  for (float softcap : {0.2f, 3.0f, 50.0f})
    for (int64_t headDim : {8, 33, 64}) {
      cpu::AttentionShape shape = shapeOf(1, 80, 80, 2, 1, headDim, true);
      shape.softcap = softcap;
      compare(shape);
    }
}

// A sink of another head, or none where a query sees no key.
TEST(CudaAttention, Sinks) {
  for (bool causal : {false, true})
    compare(shapeOf(2, 70, 70, 4, 2, 8, causal), true);
  const cpu::AttentionShape shape = shapeOf(1, 100, 30, 3, 1, 12, true);
  AttentionInputs inputs = randomInputs(shape, 2);
  inputs.sinks = {-INFINITY, -100, 40};
  compare(shape, inputs);
}

TEST(CudaAttention, WindowSoftcapSinksPaddingAndDropout) {
  cpu::AttentionShape shape = shapeOf(2, 140, 150, 6, 2, 16, true, 0.1f);
  shape.window = 50;
  shape.softcap = 2.0f;
  AttentionInputs inputs = randomInputs(shape, 4, true);
  inputs.padding.assign(300, 0);
  for (size_t j = 40; j < 60; ++j)
    inputs.padding[j] = inputs.padding[150 + 2 * j] = 1;
  compare(shape, inputs);
}

// Scores beyond the range of exp, of either sign.
TEST(CudaAttention, LargeScores) {
  const cpu::AttentionShape shape = shapeOf(1, 70, 130, 1, 1, 8, false);
  AttentionInputs inputs = randomInputs(shape, 4);
  for (double &value : inputs.q)
    value *= 64;
  const DeviceResults results = onDevice(shape, inputs, Element::Float32);
  const AttentionOutputs expected = referenceForward(shape, inputs, 0, 0);
  // Scores of several hundred carry 3e-5, which the exponential turns into as much of a weight.
  EXPECT_LT(relativeError(results.out, expected.out), 1e-4);
  EXPECT_LT(relativeError(results.lse, expected.lse), 1e-6);
}

// Without tensor cores. Inputs are exact in bfloat16. What is computed is rounded once, to 2^-9 of each value, except
// that the gradients of q and k are computed from an output that has been rounded.
TEST(CudaAttention, Bf16RoundsOnce) {
  for (auto [length, headDim, causal] : {std::tuple{17, 9, false}, {130, 33, true}, {70, 136, true}}) {
    const cpu::AttentionShape shape = shapeOf(2, length, length, 4, 2, headDim, causal, 0.1f);
    SCOPED_TRACE(describe(shape));
    ASSERT_FALSE(hasTensorCoreKernel(shape));
    const AttentionInputs inputs = roundToBf16(randomInputs(shape, 13));
    const DeviceResults results = onDevice(shape, inputs, Element::Bf16);
    const AttentionOutputs expected = referenceAttention(shape, inputs, kUpdate, kMicroBatch);
    expectNear(results, expected, 4e-3);
    EXPECT_LT(relativeError(results.lse, expected.lse), 2e-6);
    size_t wrong = 0; // roundings of a float32 that lies beside the double
    for (size_t i = 0; i < expected.out.size(); ++i)
      wrong += results.out[i] != nearestBf16(float(expected.out[i]));
    EXPECT_LT(wrong, 1 + expected.out.size() / 500);
  }
}

} // namespace
