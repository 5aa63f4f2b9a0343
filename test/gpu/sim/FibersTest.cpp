//===- FibersTest.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Fibers.h"

#include "runtime/abi/SimulatedDevice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

using namespace moe::sim;
using testing::AllOf;
using testing::HasSubstr;

namespace {

struct Grid {
  uint32_t blocks = 1, threads = 1;
  size_t sharedBytes = 0;
  Order order = Order::Ascending;
  uint8_t garbage = 0;
};

/// Runs `kernel` with one argument, a pointer.
std::string run(Kernel kernel, void *pointer, const Grid &grid) {
  void *arguments[] = {&pointer};
  return runGrid(kernel, arguments, grid.blocks, grid.threads, grid.sharedBytes, grid.order, grid.garbage);
}

template <typename T> T *argument(void *const *arguments) {
  return *static_cast<T **>(arguments[0]);
}

struct Turns {
  std::vector<std::pair<uint32_t, uint32_t>> of; ///< block, thread
};

void recordTurns(void *const *arguments) {
  argument<Turns>(arguments)->of.emplace_back(moe_sim_block(), moe_sim_thread());
}

TEST(Fibers, RunEveryThreadOnceInTheOrderAskedFor) {
  Turns up, down;
  ASSERT_EQ(run(recordTurns, &up, {.blocks = 3, .threads = 70}), "");
  ASSERT_EQ(run(recordTurns, &down, {.blocks = 3, .threads = 70, .order = Order::Descending}), "");
  ASSERT_EQ(up.of.size(), 210u);
  for (uint32_t i = 0; i < 210; ++i)
    EXPECT_EQ(up.of[i], std::pair(i / 70, i % 70));
  std::ranges::reverse(down.of);
  EXPECT_EQ(up.of, down.of);
}

/// shared[t] = t; barrier; out[t] = shared of the neighbour; and again, so that a barrier is met more than once.
void rotate(void *const *arguments) {
  auto *shared = static_cast<uint32_t *>(moe_sim_shared()), *out = argument<uint32_t>(arguments);
  const uint32_t thread = moe_sim_thread();
  uint32_t value = moe_sim_block() * 1000 + thread;
  for (int time = 0; time < 3; ++time) {
    shared[thread] = value;
    moe_sim_barrier();
    value = shared[(thread + 1) % 100];
    moe_sim_barrier();
  }
  out[moe_sim_block() * 100 + thread] = value;
}

TEST(Fibers, MeetAtBarriers) {
  for (Order order : {Order::Ascending, Order::Descending}) {
    std::vector<uint32_t> out(200);
    ASSERT_EQ(run(rotate, out.data(), {.blocks = 2, .threads = 100, .sharedBytes = 400, .order = order}), "");
    for (uint32_t i = 0; i < 200; ++i)
      ASSERT_EQ(out[i], i / 100 * 1000 + (i + 3) % 100);
  }
}

/// Without the second barrier: who comes first decides.
void racingRotate(void *const *arguments) {
  auto *shared = static_cast<uint32_t *>(moe_sim_shared()), *out = argument<uint32_t>(arguments);
  const uint32_t thread = moe_sim_thread();
  shared[thread] = thread;
  moe_sim_barrier();
  shared[thread] = shared[(thread + 1) % 64];
  moe_sim_barrier();
  out[thread] = shared[thread];
}

TEST(Fibers, RaceGivesOtherBitsInTheOtherOrder) {
  std::vector<uint32_t> up(64), down(64);
  ASSERT_EQ(run(racingRotate, up.data(), {.threads = 64, .sharedBytes = 256}), "");
  ASSERT_EQ(run(racingRotate, down.data(), {.threads = 64, .sharedBytes = 256, .order = Order::Descending}), "");
  EXPECT_NE(up, down);
}

void readShared(void *const *arguments) {
  auto *out = argument<uint8_t>(arguments), *shared = static_cast<uint8_t *>(moe_sim_shared());
  out[moe_sim_block()] = shared[37];
  shared[37] = 1;
}

TEST(Fibers, EveryBlockFindsGarbageInSharedMemory) {
  uint8_t out[2] = {};
  ASSERT_EQ(run(readShared, out, {.blocks = 2, .threads = 1, .sharedBytes = 38, .garbage = 0xA5}), "");
  EXPECT_EQ(out[0], 0xA5);
  EXPECT_EQ(out[1], 0xA5);
}

void shuffleSum(void *const *arguments) {
  uint32_t value = 1u << moe_sim_thread() % 32 | moe_sim_thread() / 32;
  for (uint32_t mask = 16; mask > 0; mask /= 2)
    value |= moe_sim_shuffle_xor(value, mask);
  // Lanes far ahead must not overwrite what others have yet to read.
  uint32_t other = moe_sim_shuffle_xor(moe_sim_thread(), 5);
  argument<uint32_t>(arguments)[moe_sim_thread()] = other == (moe_sim_thread() ^ 5) ? value : 0;
}

TEST(Fibers, ShuffleWithinTheWarp) {
  for (Order order : {Order::Ascending, Order::Descending}) {
    std::vector<uint32_t> out(96);
    ASSERT_EQ(run(shuffleSum, out.data(), {.threads = 96, .order = order}), "");
    EXPECT_THAT(out, testing::Each(0xFFFFFFFFu));
  }
}

void exchangeLines(void *const *arguments) {
  unsigned char line[MOE_SIM_EXCHANGE_BYTES];
  std::memset(line, int(moe_sim_thread()), sizeof(line));
  const unsigned char *all = moe_sim_exchange(line, sizeof(line));
  bool good = true;
  for (size_t i = 0; i < 32 * sizeof(line); ++i)
    good &= all[i] == moe_sim_thread() / 32 * 32 + i / sizeof(line);
  argument<bool>(arguments)[moe_sim_thread()] = good;
}

TEST(Fibers, ExchangeOfAWarp) {
  bool good[64] = {};
  ASSERT_EQ(run(exchangeLines, good, {.threads = 64}), "");
  EXPECT_THAT(good, testing::Each(true));
}

// Errors. Each kernel does something else in thread 40 of block 1.

bool odd() {
  return moe_sim_block() == 1 && moe_sim_thread() == 40;
}
extern "C" void endsEarly(void *const *) {
  if (!odd())
    moe_sim_barrier();
}
void endsBeforeShuffle(void *const *) {
  if (!odd())
    moe_sim_shuffle_xor(1, 1);
}
void otherBarrier(void *const *) {
  if (odd())
    moe_sim_barrier();
  else
    moe_sim_shuffle_xor(1, 1);
}
void wrongLane(void *const *) {
  moe_sim_shuffle_xor(1, odd() ? 16 : 1);
}

TEST(Fibers, ReportThreadsThatDoNotMeet) {
  const Grid grid{.blocks = 2, .threads = 64};
  for (Order order : {Order::Ascending, Order::Descending}) {
    Grid g = grid;
    g.order = order;
    moe_sim_name_kernel(endsEarly, "early");
    EXPECT_THAT(run(endsEarly, nullptr, g),
                AllOf(HasSubstr("kernel early"), HasSubstr("block 1"), HasSubstr("thread 40"), HasSubstr("has ended"),
                      HasSubstr("waits at a barrier")));
    EXPECT_THAT(run(endsBeforeShuffle, nullptr, g), AllOf(HasSubstr("waits at a shuffle"), HasSubstr("thread 40")));
    EXPECT_THAT(run(otherBarrier, nullptr, g), AllOf(HasSubstr("waits at a barrier"), HasSubstr("thread 40")));
  }
  // A whole warp that ends early.
  Kernel warpEnds = [](void *const *) {
    if (moe_sim_thread() < 32)
      moe_sim_barrier();
  };
  EXPECT_THAT(run(warpEnds, nullptr, grid), AllOf(HasSubstr("of the same block"), HasSubstr("thread 32")));
  // What was abandoned does not disturb the next grid.
  std::vector<uint32_t> out(100);
  ASSERT_EQ(run(rotate, out.data(), {.threads = 100, .sharedBytes = 400}), "");
  EXPECT_EQ(out[99], 2u);
}

TEST(Fibers, ReportLanesThatDoNotExist) {
  EXPECT_THAT(run(wrongLane, nullptr, {.blocks = 2, .threads = 48}),
              AllOf(HasSubstr("lane 24"), HasSubstr("block 1, thread 40")));
  EXPECT_EQ(run(wrongLane, nullptr, {.blocks = 2, .threads = 64}), "");
}

TEST(Fibers, RefuseGridsThatNoDeviceTakes) {
  Turns turns;
  EXPECT_THAT(run(recordTurns, &turns, {.blocks = 0, .threads = 32}), HasSubstr("0 blocks"));
  EXPECT_THAT(run(recordTurns, &turns, {.blocks = 1, .threads = 0}), HasSubstr("0 threads"));
  EXPECT_THAT(run(recordTurns, &turns, {.blocks = 1, .threads = 1025}), HasSubstr("1025 threads"));
  EXPECT_THAT(run(recordTurns, &turns, {.threads = 32, .sharedBytes = 227 * 1024 + 1}), HasSubstr("shared memory"));
  EXPECT_TRUE(turns.of.empty());
}

TEST(Fibers, GridsOfTwoHostThreadsAreIndependent) {
  std::vector<uint32_t> out[2];
  auto work = [](std::vector<uint32_t> &result) {
    result.resize(200);
    for (int time = 0; time < 20; ++time)
      ASSERT_EQ(run(rotate, result.data(), {.blocks = 2, .threads = 100, .sharedBytes = 400}), "");
  };
  std::thread other(work, std::ref(out[0]));
  work(out[1]);
  other.join();
  EXPECT_EQ(out[0], out[1]);
}

} // namespace
