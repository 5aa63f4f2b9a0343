//===- TrafficTest.cpp - What is reported is what is sent
//-----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Collective.h"
#include "runtime/plan/Collectives.h"
#include "runtime/plan/Structure.h"

#include <gtest/gtest.h>
#include <numeric>

using namespace moe;

namespace {

/// Counts what one rank hands over for others; nothing arrives.
class CountingGroup final : public Group {
public:
  CountingGroup(int ranks, int own, Traffic &sent) : Group(everyone(ranks), own), sent(sent) {}

  Status exchange(std::span<const SendBlock> sends, std::span<const ReceiveBlock> /*receives*/,
                  const char * /*what*/) override {
    for (size_t to = 0; to < sends.size(); ++to)
      if (static_cast<int>(to) != index()) {
        sent.bytes += sends[to].size();
        ++sent.messages;
      }
    return {};
  }

private:
  static std::vector<int> everyone(int ranks) {
    std::vector<int> members(static_cast<size_t>(ranks));
    std::iota(members.begin(), members.end(), 0);
    return members;
  }

  Traffic &sent;
};

Traffic sentBy(int rank, int ranks, const plan::Collective &work, plan::DType dtype) {
  const size_t width = elementBytes(dtype);
  std::vector<std::byte> input(static_cast<size_t>(work.count()) * width);
  std::vector<std::byte> output(collectiveOutput(work, static_cast<uint64_t>(ranks)) * width);
  std::vector<std::byte> scratch(collectiveScratchBytes(work, dtype, static_cast<uint64_t>(ranks)));
  Traffic sent;
  cpu::Collective collective(work, dtype, {input.data(), output.data(), scratch.data()},
                             std::make_unique<CountingGroup>(ranks, rank, sent), cpu::ThreadPool(1), "test");
  EXPECT_TRUE(collective.run());
  return sent;
}

} // namespace

// Catches: a formula that is not what runtime/cpu/Collective.cpp does, a rank's own part counted, the width of another
// type, counts that do not divide.
TEST(Traffic, IsWhatTheRankThatSendsMostHandsOver) {
  for (plan::DType dtype : {plan::F32, plan::BF16, plan::I64})
    for (int ranks = 1; ranks <= 5; ++ranks)
      for (auto kind : {plan::Collective::ALL_REDUCE, plan::Collective::ALL_GATHER, plan::Collective::REDUCE_SCATTER,
                        plan::Collective::ALL_TO_ALL})
        for (int64_t count : {0, 1, 3, 60, 61}) {
          if ((kind == plan::Collective::REDUCE_SCATTER || kind == plan::Collective::ALL_TO_ALL) && count % ranks != 0)
            continue;
          plan::Collective work;
          work.set_kind(kind);
          work.set_count(count);
          for (plan::Parts *parts : {work.mutable_split(), work.mutable_concat()}) {
            parts->set_outer(1);
            parts->set_inner(kind == plan::Collective::ALL_GATHER ? count : count / ranks);
          }
          Traffic most;
          for (int rank = 0; rank < ranks; ++rank) {
            const Traffic sent = sentBy(rank, ranks, work, dtype);
            most = {std::max(most.bytes, sent.bytes), std::max(most.messages, sent.messages)};
          }
          const Traffic said = collectiveTraffic(work, dtype, static_cast<uint64_t>(ranks));
          EXPECT_EQ(said.bytes, most.bytes) << kind << " of " << count << " on " << ranks;
          EXPECT_EQ(said.messages, most.messages) << kind << " of " << count << " on " << ranks;
        }
}

// Catches: a wait of another lane that is overlooked, work of the same lane taken for work beside it.
TEST(Traffic, IsExposedWhereNothingRunsBesideIt) {
  plan::Program program;
  auto add = [&](uint32_t lane, uint32_t waits, uint32_t signal) {
    plan::Step &step = *program.add_steps();
    step.set_lane(lane);
    step.set_signal(signal);
    if (waits != 0)
      step.add_waits(waits);
    return program.steps_size() - 1;
  };
  const int alone = add(0, 0, 0); // in the lane of all that follows it
  add(0, 0, 1);
  EXPECT_TRUE(isExposed(program, alone));
  const int waitedFor = add(1, 1, 2);
  add(0, 2, 3);
  EXPECT_TRUE(isExposed(program, waitedFor));
  const int hidden = add(1, 3, 4), next = add(1, 0, 5);
  add(0, 0, 0);
  add(0, 4, 0);
  add(0, 5, 0);
  EXPECT_FALSE(isExposed(program, hidden));
  EXPECT_FALSE(isExposed(program, next));
  const int last = add(1, 0, 6);
  EXPECT_TRUE(isExposed(program, last));
}
