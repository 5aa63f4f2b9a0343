//===- ScatterAddTest.cpp -----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/ScatterAdd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace moe::cpu;

namespace {

template <typename Index> class ScatterAdd : public testing::Test {};
using Indices = testing::Types<int32_t, int64_t>;
TYPED_TEST_SUITE(ScatterAdd, Indices);

template <typename Index> struct Case {
  ScatterAddShape shape;
  std::vector<Index> index;
  std::vector<float> rows, before;

  Case(int64_t rowCount, int64_t width, int64_t tableRows, bool accumulate)
      : shape{.rows = rowCount, .width = width, .tableRows = tableRows, .accumulate = accumulate} {
    std::mt19937 generator(3);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rowCount; ++i)
      index.push_back(static_cast<Index>(int64_t(generator() % uint64_t(tableRows + 1)) - 1));
    for (int64_t i = 0; i < rowCount * width; ++i)
      rows.push_back(normal(generator));
    for (int64_t i = 0; i < tableRows * width; ++i)
      before.push_back(accumulate ? normal(generator) : std::numeric_limits<float>::quiet_NaN());
  }

  /// Column by column, element by element, in float32 and in order of the rows.
  std::vector<float> expected() const {
    std::vector<float> table = before;
    for (int64_t column = 0; column < shape.width; ++column)
      for (int64_t row = 0; row < shape.tableRows; ++row) {
        float &cell = table[size_t(row * shape.width + column)];
        cell = shape.accumulate ? cell : 0.0f;
        for (int64_t i = 0; i < shape.rows; ++i)
          if (int64_t(index[size_t(i)]) == row)
            cell += rows[size_t(i * shape.width + column)];
      }
    return table;
  }
};

// Bitwise: any other order of summation differs in some of the sums.
TYPED_TEST(ScatterAdd, AddsInOrderForAnySplit) {
  for (int64_t width : {1, 3, 17, 255})
    for (bool accumulate : {false, true}) {
      Case<TypeParam> test(200, width, 7, accumulate);
      const std::vector<float> expected = test.expected();
      for (int64_t piece : {int64_t{1}, int64_t{16}, width}) {
        std::vector<float> table = test.before;
        for (int64_t begin = 0; begin < width; begin += piece)
          EXPECT_EQ(scatterAdd(test.shape, test.index.data(), test.rows.data(), table.data(), begin,
                               std::min(begin + piece, width)),
                    0);
        EXPECT_EQ(table, expected) << "width " << width << " in pieces of " << piece;
      }
    }
}

TYPED_TEST(ScatterAdd, CountsIndicesBeyondTheTable) {
  const ScatterAddShape shape{.rows = 4, .width = 2, .tableRows = 3, .accumulate = false};
  const TypeParam index[] = {3, 2, -1, std::numeric_limits<TypeParam>::max()};
  const float rows[] = {1, 2, 3, 4, 5, 6, 7, 8};
  float table[] = {9, 9, 9, 9, 9, 9, 9};
  EXPECT_EQ(scatterAdd(shape, index, rows, table, 0, 2), 2);
  EXPECT_EQ(std::vector<float>(table, table + 7), (std::vector<float>{0, 0, 0, 0, 3, 4, 9}));
}

} // namespace
