//===- VectorTest.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/MicroKernel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

// These headers have internal linkage: this file tests them for the instruction set it is compiled for itself.
using namespace moe;
using namespace moe::cpu;

namespace {

TEST(Vector, Exp2) {
  double worst = 0;
  for (int i = 0; i < 1 << 20; ++i) {
    const float x = -126.0f + 253.0f * float(i) / float(1 << 20);
    const double exact = std::exp2(double(x));
    worst = std::max(worst, std::abs(double(exp2(broadcast(x))[0]) - exact) / exact);
  }
  EXPECT_LE(worst, 1.5e-7);
  EXPECT_EQ(exp2(broadcast(0.0f))[0], 1.0f);
  EXPECT_EQ(exp2(broadcast(-1e30f))[0], 0x1p-126f);
  EXPECT_EQ(exp2(broadcast(-std::numeric_limits<float>::infinity()))[0], 0x1p-126f);
  for (uint32_t payload : {0x7FC00000u, 0x7FC00001u, 0xFFFFFFFFu})
    EXPECT_TRUE(std::isnan(exp2(broadcast(std::bit_cast<float>(payload)))[0]));
}

TEST(Vector, Tanh) {
  double worst = 0;
  for (int i = 1; i < 1 << 20; ++i)
    for (float sign : {-1.0f, 1.0f}) {
      const float x = sign * std::exp2(-30.0f + 35.0f * float(i) / float(1 << 20));
      const double exact = std::tanh(double(x)), exactSlope = std::pow(1 / std::cosh(double(x)), 2);
      Vec slope;
      worst = std::max(worst, std::abs((double(tanh(broadcast(x), &slope)[0]) - exact) / exact));
      EXPECT_LE(std::abs((double(slope[0]) - exactSlope) / exactSlope), 3e-7 + 2e-7 * std::abs(double(x))) << x;
    }
  EXPECT_LE(worst, 3e-7);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(tanh(broadcast(0.0f))[0], 0.0f);
  EXPECT_EQ(tanh(broadcast(1e30f))[0], 1.0f);
  EXPECT_EQ(tanh(broadcast(-infinity))[0], -1.0f);
  EXPECT_TRUE(std::isnan(tanh(broadcast(std::nanf("")))[0]));
}

TEST(Vector, PhiloxLanes) {
  const auto key = philox::siteKey(17, 4);
  const PhiloxLanes philoxLanes{{key[0], key[1]}, 9};
  for (uint64_t first : {uint64_t{0}, uint64_t{0xFFFFFFFA}, uint64_t{1} << 40})
    for (uint64_t stride : {1, 255, 65536}) {
      const UVec words = philoxLanes.words(first, stride);
      for (int lane = 0; lane < lanes; ++lane)
        EXPECT_EQ(words[lane], philox::word(key, 9, first + uint64_t(lane) * stride));
    }
}

// Every remainder of rows and vectors, both orientations of A and all three starts.
TEST(MicroKernel, Products) {
  std::mt19937 generator(2);
  std::normal_distribution<float> normal;
  auto draw = [&](int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float &value : values)
      value = normal(generator);
    return values;
  };
  for (int64_t rows : {1, 2, 3, 5, 11, 16, 24, 31})
    for (int64_t vectors = 1; vectors <= 9; ++vectors)
      for (int64_t depth : {0, 1, 7}) {
        const int64_t columns = vectors * lanes, stride = columns + lanes;
        const std::vector<float> a = draw(rows * 8), b = draw(depth * stride + 1), factor = draw(columns),
                                 before = draw(rows * stride);
        for (bool transposed : {false, true})
          for (Start start : {Start::Zero, Start::Add, Start::Scale}) {
            std::vector<float> c = before;
            const int64_t aRow = transposed ? 1 : 8, aDepth = transposed ? rows : 1;
            const Product product{.rows = rows,
                                  .vectors = vectors,
                                  .depth = depth,
                                  .a = a.data(),
                                  .aRow = aRow,
                                  .aDepth = aDepth,
                                  .b = b.data(),
                                  .bStride = stride,
                                  .c = c.data(),
                                  .cStride = stride,
                                  .factor = factor.data()};
            switch (start) {
            case Start::Zero:
              multiply<Start::Zero>(product);
              break;
            case Start::Add:
              multiply<Start::Add>(product);
              break;
            case Start::Scale:
              multiply<Start::Scale>(product);
              break;
            }
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t j = 0; j < stride; ++j) {
                double expected = double(before[size_t(r * stride + j)]);
                if (j < columns) {
                  expected *= start == Start::Zero ? 0.0 : start == Start::Add ? 1.0 : double(factor[size_t(j)]);
                  for (int64_t k = 0; k < depth; ++k)
                    expected += double(a[size_t(r * aRow + k * aDepth)]) * double(b[size_t(k * stride + j)]);
                }
                ASSERT_NEAR(double(c[size_t(r * stride + j)]), expected, 1e-5)
                    << rows << " x " << vectors << " at " << r << ", " << j;
              }
          }
      }
}

} // namespace
