//===- ThreadRanksTest.cpp - Ranks that are threads ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/ThreadRanks.h"
#include "runtime/comm/Agreement.h"
#include "runtime/cpu/Collective.h"
#include "test/runtime/comm/CollectiveChecks.h"

#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <mutex>
#include <thread>

using namespace moe;
using namespace moe::test;

namespace {

/// Runs `body` on each rank; returns what each said.
std::vector<std::string> onRanks(int size, const std::function<std::string(Communicator &)> &body,
                                 const CommOptions &options = {}) {
  auto ranks = makeThreadRanks(size, options);
  std::vector<std::string> said(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    threads.emplace_back([&, rank] { said[rank] = body(*ranks[rank]); });
  for (std::thread &thread : threads)
    thread.join();
  return said;
}

std::vector<std::string> nothing(int size) {
  return std::vector<std::string>(static_cast<size_t>(size));
}

TEST(ThreadRanks, CollectivesAgreeWithPlainLoops) {
  for (int size : {1, 2, 3, 4, 8})
    EXPECT_EQ(onRanks(size, [&](Communicator &rank) { return checkCollectives(rank, 17 + uint64_t(size), 150); }),
              nothing(size));
}

TEST(ThreadRanks, BlocksMayBeOverwrittenAfterwards) {
  for (int size : {1, 2, 5})
    EXPECT_EQ(onRanks(size, [](Communicator &rank) { return checkExchanges(rank, 300); }), nothing(size));
}

// Whoever does not come is named by all others, with the place and the update, soon after the deadline.
TEST(ThreadRanks, AWaitEndsAtItsDeadline) {
  const auto start = std::chrono::steady_clock::now();
  auto said = onRanks(4,
                      [](Communicator &rank) -> std::string {
                        rank.setUpdate(17);
                        auto all = rank.all();
                        std::vector<SendBlock> sends(4);
                        std::vector<ReceiveBlock> receives(4);
                        if (rank.rank() == 2)
                          return "away";
                        Status status = all->exchange(sends, receives, "program 'update', step 3 'norm'");
                        return status ? "no error" : status.error().str();
                      },
                      {.deadline = 0.5});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took.count(), 0.5);
  EXPECT_LT(took.count(), 3);
  int named = 0;
  for (size_t rank : {0, 1, 3}) {
    EXPECT_NE(said[rank].find("rank " + std::to_string(rank) + ", update 17, program 'update', step 3 'norm'"),
              std::string::npos)
        << said[rank];
    named += said[rank].find("waited in vain for rank 2\n") != std::string::npos ? 1 : 0;
    EXPECT_TRUE(said[rank].find("waited in vain for rank 2") != std::string::npos) << said[rank];
  }
  EXPECT_GE(named, 1);
}

TEST(ThreadRanks, OneThatGivesUpEndsTheWaitsOfAll) {
  const auto start = std::chrono::steady_clock::now();
  auto said = onRanks(3, [](Communicator &rank) -> std::string {
    if (rank.rank() == 1) {
      rank.giveUp({"the data are damaged", {}, {}, {}});
      return "gone";
    }
    auto all = rank.all();
    std::vector<SendBlock> sends(3);
    std::vector<ReceiveBlock> receives(3);
    Status status = all->exchange(sends, receives, "a test");
    return status ? "no error" : status.error().str();
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  for (size_t rank : {0, 2}) {
    EXPECT_NE(said[rank].find("rank 1 has given up"), std::string::npos) << said[rank];
    EXPECT_NE(said[rank].find("the data are damaged"), std::string::npos) << said[rank];
  }
}

TEST(ThreadRanks, AWaitThatGoesOnSaysSoWhenItIsToStop) {
  std::mutex mutex;
  std::vector<std::string> reports;
  CommOptions options{.deadline = 60,
                      .interrupted = [] { return true; },
                      .report =
                          [&](const std::string &text) {
                            std::lock_guard lock(mutex);
                            reports.push_back(text);
                          }};
  auto said = onRanks(
      2,
      [](Communicator &rank) -> std::string {
        if (rank.rank() == 1)
          std::this_thread::sleep_for(std::chrono::milliseconds(1200));
        auto any = anyOf(*rank.all(), rank.rank() == 1, "the end");
        return any ? (*any ? "yes" : "no") : any.error().str();
      },
      options);
  EXPECT_EQ(said, (std::vector<std::string>{"yes", "yes"}));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_NE(reports[0].find("waits for rank 1 (rank 0, the end)"), std::string::npos) << reports[0];
}

TEST(Agreement, AllHearOfTheFirstError) {
  auto said = onRanks(4, [](Communicator &rank) {
    Status own = rank.rank() % 2 == 0 ? Status() : error("no file", "data.bin", "because", "make it", ExitCode::Usage);
    Agreed agreed = agree(*rank.all(), own, "setup");
    return agreed.status || !agreed.heard || agreed.status.error().code != ExitCode::Usage
               ? "no"
               : agreed.status.error().str();
  });
  for (const std::string &text : said)
    EXPECT_EQ(text, "error: no file\n  where: rank 1, data.bin\n  why:   because\n  try:   make it");
  said = onRanks(3, [](Communicator &rank) {
    Agreed agreed = agree(*rank.all(), error("no file", "data.bin"), "setup");
    return agreed.status ? "no" : agreed.status.error().where;
  });
  EXPECT_EQ(said, (std::vector<std::string>(3, "data.bin"))); // the same everywhere is of no rank
  said = onRanks(3, [](Communicator &rank) { return agree(*rank.all(), {}, "setup").status ? "fine" : "no"; });
  EXPECT_EQ(said, (std::vector<std::string>(3, "fine")));
}

TEST(Agreement, LongTextsAreCut) {
  std::string umlauts;
  for (int i = 0; i < 2000; ++i)
    umlauts += "ü"; // two bytes
  auto said =
      onRanks(2, [&](Communicator &rank) { return agree(*rank.all(), error(umlauts), "setup").status.error().what; });
  EXPECT_LT(said[0].size(), umlauts.size());
  EXPECT_EQ(said[0], umlauts.substr(0, said[0].size()));
  EXPECT_EQ(said[0].size() % 2, 0u);
}

TEST(Agreement, NumbersComeInTheOrderOfTheRanks) {
  onRanks(3, [](Communicator &rank) -> std::string {
    auto numbers = gatherNumbers(*rank.all(), 100 + uint64_t(rank.rank()), "setup");
    EXPECT_TRUE(numbers);
    EXPECT_EQ(numbers.value_or(std::vector<uint64_t>()), (std::vector<uint64_t>{100, 101, 102}));
    return {};
  });
}

// Sums are rounded once, from float32: in bfloat16 alone, 256 + 1 + 1 stays 256. The order is that of the parts.
TEST(ReduceParts, AddsInFloat32InOrder) {
  const uint16_t parts[] = {0x4380, 0x3f80, 0x3f80}; // 256, 1, 1
  uint16_t sum = 0;
  cpu::reduceParts(plan::BF16, plan::Collective::SUM, reinterpret_cast<const std::byte *>(parts), 1, 3, 1,
                   reinterpret_cast<std::byte *>(&sum), cpu::ThreadPool(1));
  EXPECT_EQ(sum, 0x4381); // 258
  const float terms[] = {1e8f, -1e8f, 1.0f}, others[] = {1.0f, 1e8f, -1e8f};
  float first = 0, second = 0;
  for (auto [from, to] : {std::pair(terms, &first), std::pair(others, &second)})
    cpu::reduceParts(plan::F32, plan::Collective::SUM, reinterpret_cast<const std::byte *>(from), 1, 3, 1,
                     reinterpret_cast<std::byte *>(to), cpu::ThreadPool(1));
  EXPECT_EQ(first, 1.0f);
  EXPECT_EQ(second, 0.0f);
}

TEST(ReduceParts, NotANumberStaysOne) {
  const float nan = std::bit_cast<float>(0x7fc00000u);
  for (auto reduction : {plan::Collective::SUM, plan::Collective::MAX})
    for (int at : {0, 1, 2}) {
      float terms[] = {1, 2, 3}, result = 0;
      terms[at] = nan;
      cpu::reduceParts(plan::F32, reduction, reinterpret_cast<const std::byte *>(terms), 1, 3, 1,
                       reinterpret_cast<std::byte *>(&result), cpu::ThreadPool(1));
      EXPECT_TRUE(std::isnan(result));
    }
  const uint16_t quiet[] = {0x7f81, 0x0000}; // a NaN whose upper bits alone would be an infinity after rounding down
  uint16_t result = 0;
  cpu::reduceParts(plan::BF16, plan::Collective::SUM, reinterpret_cast<const std::byte *>(quiet), 1, 2, 1,
                   reinterpret_cast<std::byte *>(&result), cpu::ThreadPool(1));
  EXPECT_EQ(result & 0x7f80, 0x7f80);
  EXPECT_NE(result & 0x7f, 0);
}

} // namespace
