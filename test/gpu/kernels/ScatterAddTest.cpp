//===- ScatterAddTest.cpp -----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/ScatterAdd.h"

#include "runtime/cuda/Scratch.h"
#include "test/gpu/kernels/Simulate.h"

#include <random>

using namespace moe;
using namespace moe::test;

namespace {

struct Case {
  cpu::ScatterAddShape shape;
  std::vector<int64_t> index;
  std::vector<float> rows, table;
};

/// `popular`: how many indices in eight are row 0 of the table. One in nine is negative.
Case randomCase(int64_t rows, int64_t width, int64_t tableRows, bool accumulate, unsigned popular, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  Case c;
  c.shape = {.rows = rows, .width = width, .tableRows = tableRows, .accumulate = accumulate};
  for (int64_t i = 0; i < rows; ++i) {
    int64_t at = generator() % 8 < popular ? 0 : int64_t(generator()) % tableRows;
    c.index.push_back(generator() % 9 == 0 ? -1 - int64_t(generator() % 3) : at);
  }
  for (int64_t i = 0; i < rows * width; ++i)
    c.rows.push_back(normal(generator));
  for (int64_t i = 0; i < tableRows * width; ++i)
    c.table.push_back(normal(generator));
  return c;
}

std::vector<float> onCpu(const Case &c) {
  std::vector<float> table = c.table;
  cpu::scatterAdd(c.shape, c.index.data(), c.rows.data(), table.data(), 0, c.shape.width);
  return table;
}

std::vector<float> onDevice(const Case &c, bool index64, int32_t *outside = nullptr) {
  plan::ScatterAdd step;
  step.set_rows(c.shape.rows);
  step.set_width(c.shape.width);
  step.set_table_rows(c.shape.tableRows);
  step.set_accumulate(c.shape.accumulate);
  return simulate([&] {
    std::vector<int32_t> index32(c.index.begin(), c.index.end());
    std::vector<float> table = c.shape.accumulate ? c.table : unwritten<float>(c.table.size());
    auto scratch = unwritten<unsigned char>(cuda::scatterAddScratchBytes(step));
    const void *index = index64 ? static_cast<const void *>(c.index.data()) : index32.data();
    EXPECT_EQ(cuda::scatterAdd(c.shape,
                               {.index = index,
                                .index64 = index64,
                                .rows = c.rows.data(),
                                .table = table.data(),
                                .scratch = scratch.data(),
                                .outside = outside},
                               nullptr),
              cudaSuccess);
    wait();
    return table;
  });
}

TEST(CudaScatterAdd, SameBitsAsTheCpu) {
  unsigned seed = 0;
  for (int64_t rows : {1, 3, 17, 255, 700})
    for (int64_t width : {1, 17, 255, 1030})
      for (int64_t tableRows : {1, 5, 33})
        for (unsigned popular : {0, 7}) {
          if (rows * width > 200000 && tableRows != 5)
            continue;
          SCOPED_TRACE(testing::Message() << rows << " rows of " << width << " to " << tableRows << ", " << popular);
          const Case c = randomCase(rows, width, tableRows, seed % 2 == 0, popular, seed);
          ASSERT_EQ(onDevice(c, seed % 3 == 0), onCpu(c));
          ++seed;
        }
}

/// One row of the table gets as many as the kernel sorts, one fewer, one more.
TEST(CudaScatterAdd, ListsAsLongAsAreSorted) {
  for (int64_t rows : {63, 64, 65}) {
    Case c = randomCase(rows, 3, 2, true, 8, unsigned(rows));
    std::ranges::fill(c.index, 1);
    ASSERT_EQ(onDevice(c, true), onCpu(c)) << rows;
  }
}

TEST(CudaScatterAdd, CountsIndicesOutside) {
  Case c = randomCase(40, 5, 3, false, 1, 7);
  c.index[11] = 3;
  c.index[12] = int64_t{1} << 40; // would be 0 in 32 bits
  c.index[13] = int64_t{1} << 31;
  std::vector<int32_t> outside{0};
  ASSERT_EQ(onDevice(c, true, outside.data()), onCpu(c));
  EXPECT_EQ(outside[0], 2 * 3); // two runs
}

TEST(CudaScatterAdd, NothingToAdd) {
  const Case c = randomCase(0, 7, 4, false, 0, 1);
  EXPECT_EQ(onDevice(c, false), std::vector<float>(28, 0.0f));
  Case kept = c;
  kept.shape.accumulate = true;
  EXPECT_EQ(onDevice(kept, false), kept.table);
}

} // namespace
