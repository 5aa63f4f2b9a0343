//===- ThreadPoolTest.cpp - How extents are cut and who computes them ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/ThreadPool.h"

#include <array>
#include <atomic>
#include <barrier>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

using namespace moe::cpu;

namespace {

TEST(ThreadPool, EveryElementOnceInPartsOfAtLeastTheGrain) {
  for (int threads : {1, 2, 3, 7})
    for (int64_t extent : {0, 1, 2, 6, 7, 8, 100, 1031})
      for (int64_t grain : {0, 1, 5, 100, 2000}) {
        std::vector<std::atomic<int>> seen(extent);
        std::array<std::atomic<int>, 7> parts{};
        ThreadPool(threads).parallelFor(extent, grain, [&](int64_t begin, int64_t end, int part) {
          EXPECT_TRUE(begin < end && part >= 0 && part < threads);
          EXPECT_GE(end - begin, std::min(grain, extent));
          ++parts[part];
          for (int64_t i = begin; i < end; ++i)
            ++seen[i];
        });
        for (const std::atomic<int> &count : seen)
          ASSERT_EQ(count, 1);
        for (const std::atomic<int> &count : parts)
          ASSERT_LE(count, 1);
      }
}

TEST(ThreadPool, PartsRunAtTheSameTime) {
  std::barrier meeting(3); // hangs unless three threads arrive
  ThreadPool(3).parallelFor(3, 1, [&](int64_t, int64_t, int) { meeting.arrive_and_wait(); });
}

TEST(ThreadPool, LittleWorkStaysOnTheCaller) {
  std::thread::id caller = std::this_thread::get_id();
  ThreadPool(4).parallelFor(10, 8, [&](int64_t begin, int64_t end, int) {
    EXPECT_EQ(end - begin, 10);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

TEST(ThreadPool, TheWholeRangeOfInt64IsCutWithoutOverflow) {
  std::array<std::atomic<int64_t>, 3> lengths{};
  ThreadPool(3).parallelFor(INT64_MAX, 1, [&](int64_t begin, int64_t end, int part) { lengths[part] = end - begin; });
  EXPECT_EQ(static_cast<uint64_t>(lengths[0]) + lengths[1] + lengths[2], static_cast<uint64_t>(INT64_MAX));
}

// Two OpenMP runtimes in one process would fight for the cores.
TEST(ThreadPool, ThereIsOneOpenMPRuntime) {
  std::ifstream maps("/proc/self/maps");
  bool gnu = false;
  for (std::string line; std::getline(maps, line);) {
    gnu |= line.find("libgomp.so") != std::string::npos;
    EXPECT_EQ(line.find("libomp"), std::string::npos) << line;
    EXPECT_EQ(line.find("libiomp"), std::string::npos) << line;
  }
  EXPECT_TRUE(gnu);
}

} // namespace
