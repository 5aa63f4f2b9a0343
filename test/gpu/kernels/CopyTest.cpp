//===- CopyTest.cpp -----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Copy.h"

#include "test/gpu/kernels/Simulate.h"

#include <algorithm>
#include <numeric>

using namespace moe;
using namespace moe::test;

namespace {

/// Copies item `index` of four; `shift` misaligns the source. Returns what lies at the destination, and one byte more.
std::vector<uint8_t> copied(int64_t item, size_t bytes, size_t shift, int32_t *outside) {
  const std::vector<int64_t> index{item};
  return simulate([&] {
    std::vector<uint8_t> from(4 * bytes + shift), to(bytes + 1, 0xEE);
    std::iota(from.begin(), from.end(), uint8_t{0});
    EXPECT_EQ(cuda::copyIndexed({.index = index.data(),
                                 .from = from.data() + shift,
                                 .to = to.data(),
                                 .bytes = int64_t(bytes),
                                 .items = 4,
                                 .outside = outside},
                                nullptr),
              cudaSuccess);
    wait();
    return to;
  });
}

TEST(CudaCopy, TakesTheItemOfTheIndex) {
  for (size_t bytes : {size_t{1}, size_t{4}, size_t{12}, size_t{16}, size_t{4096}, size_t{16 * 256 * 2050}})
    for (size_t shift : {0, 1, 4})
      for (int64_t index : {0, 3}) {
        std::vector<uint8_t> expected(bytes + 1);
        std::iota(expected.begin(), expected.end(), uint8_t(size_t(index) * bytes + shift));
        expected.back() = 0xEE;
        std::vector<int32_t> outside{0};
        ASSERT_TRUE(copied(index, bytes, shift, outside.data()) == expected) << bytes << " " << shift << " " << index;
        ASSERT_EQ(outside[0], 0);
      }
}

TEST(CudaCopy, CountsIndicesOutsideAndWritesZeros) {
  for (int64_t index : {int64_t{-1}, int64_t{4}, INT64_MAX / 8}) {
    std::vector<int32_t> outside{0};
    std::vector<uint8_t> expected(8193);
    expected.back() = 0xEE;
    EXPECT_EQ(copied(index, 8192, 0, outside.data()), expected);
    EXPECT_EQ(outside[0], 2); // two runs
    EXPECT_EQ(copied(index, 8, 0, nullptr), (std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0, 0xEE}));
  }
}

} // namespace
