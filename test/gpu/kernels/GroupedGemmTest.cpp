//===- GroupedGemmTest.cpp ----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/GroupedGemm.h"

#include "test/gpu/kernels/Simulate.h"

#include <bit>
#include <random>

using namespace moe;
using namespace moe::test;

namespace {

using cuda::GroupedGemmPointers;
using cuda::GroupedGemmShape;

/// Normal numbers that bf16 holds.
std::vector<float> numbers(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float &value : values)
    value = std::bit_cast<float>(std::bit_cast<uint32_t>(normal(random)) & 0xffff0000);
  return values;
}

struct Case {
  GroupedGemmShape shape;
  bool weightGrad = false;
  std::vector<int32_t> blockExpert;
  std::vector<float> left, right, weights;
};

Case randomCase(GroupedGemmShape shape, bool weightGrad, std::vector<int32_t> blockExpert) {
  int64_t rows = shape.blocks * shape.blockRows;
  return {shape,
          weightGrad,
          std::move(blockExpert),
          numbers(rows * shape.left, 1),
          numbers(rows * shape.right, 2),
          numbers(shape.experts * shape.left * shape.right, 3)};
}

/// The obvious loops: sums in order of their terms, in float32, as the kernels take them.
std::vector<float> expected(const Case &c) {
  const GroupedGemmShape &s = c.shape;
  const int64_t rows = s.blocks * s.blockRows, left = s.left, right = s.right;
  std::vector<float> result(static_cast<size_t>(c.weightGrad ? s.experts * left * right : rows * right));
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t e = c.blockExpert[static_cast<size_t>(r / s.blockRows)];
    if (e < 0 || e >= s.experts)
      continue;
    for (int64_t i = 0; i < left; ++i)
      for (int64_t j = 0; j < right; ++j) {
        if (c.weightGrad)
          result[static_cast<size_t>((e * left + i) * right + j)] +=
              c.left[static_cast<size_t>(r * left + i)] * c.right[static_cast<size_t>(r * right + j)];
        else
          result[static_cast<size_t>(r * right + j)] +=
              c.left[static_cast<size_t>(r * left + i)] *
              c.weights[static_cast<size_t>(e * left * right + (s.transposed ? j * left + i : i * right + j))];
      }
  }
  return result;
}

uint16_t rounded(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/// The results, those of bf16 as its bits.
template <typename T> std::vector<T> onDevice(const Case &c, int32_t *outside = nullptr) {
  auto stored = [](const std::vector<float> &values) {
    std::vector<T> result;
    for (float value : values) {
      if constexpr (std::is_same_v<T, uint16_t>)
        result.push_back(rounded(value));
      else
        result.push_back(value);
    }
    return result;
  };
  GroupedGemmShape shape = c.shape;
  shape.element = std::is_same_v<T, uint16_t> ? cuda::Element::Bf16 : cuda::Element::Float32;
  return simulate([&] {
    std::vector<T> left = stored(c.left), right = stored(c.right), weights = stored(c.weights);
    std::vector<T> result = unwritten<T>(expected(c).size());
    GroupedGemmPointers pointers;
    pointers.left = left.data();
    pointers.blockExpert = c.blockExpert.data();
    pointers.right = right.data();
    pointers.result = result.data();
    pointers.outside = outside;
    T *tables = c.weightGrad ? result.data() : weights.data();
    for (int64_t e = 0; e < (shape.separate ? shape.experts : 1); ++e)
      pointers.weights[e] = tables + e * shape.left * shape.right;
    EXPECT_EQ(c.weightGrad ? cuda::groupedGemmWeightGrad(shape, pointers, nullptr)
                           : cuda::groupedGemm(shape, pointers, nullptr),
              cudaSuccess);
    wait();
    return result;
  });
}

void check(const Case &c) {
  const std::vector<float> result = expected(c);
  ASSERT_EQ(onDevice<float>(c), result);
  std::vector<uint16_t> narrow;
  for (float value : result)
    narrow.push_back(rounded(value));
  ASSERT_EQ(onDevice<uint16_t>(c), narrow);
}

/// An expert in two places, one without rows, blocks of nobody between and behind.
const std::vector<int32_t> kRagged = {0, 0, -1, 3, 1, 1, 0, -1};

TEST(CudaGroupedGemm, SameBitsAsTheObviousLoop) {
  for (int form = 0; form < 8; ++form)
    for (int64_t blockRows : {3, 70})
      for (auto [left, right] : {std::pair<int64_t, int64_t>{17, 9}, {5, 66}, {65, 3}}) {
        GroupedGemmShape shape{.blocks = 8, .blockRows = blockRows, .experts = 4, .left = left, .right = right};
        shape.separate = form & 1;
        shape.transposed = form & 2;
        if ((form & 4) && shape.transposed)
          continue;
        SCOPED_TRACE(testing::Message() << "form " << form << ", blocks of " << blockRows << ", " << left << " x "
                                        << right);
        check(randomCase(shape, form & 4, kRagged));
      }
}

TEST(CudaGroupedGemm, CountsBlocksOfExpertsBeyondTheLast) {
  GroupedGemmShape shape{.blocks = 8, .blockRows = 4, .experts = 4, .left = 70, .right = 70};
  for (bool weightGrad : {false, true}) {
    Case c = randomCase(shape, weightGrad, {0, 4, 2, 2, 1 << 30, 3, -1, 1});
    std::vector<int32_t> outside{0};
    ASSERT_EQ(onDevice<float>(c, outside.data()), expected(c));
    EXPECT_EQ(outside[0], 2 * 2); // two runs
  }
}

} // namespace
