//===- CudaDeviceTest.cpp - Programs, graphs and what the host sees of them ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/backend/Rig.h"

#include <numeric>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

std::vector<std::string> callNames() {
  return {sim::calls().begin(), sim::calls().end()};
}

TEST(CudaDevice, RunsEachSimpleKindOfStep) {
  Rig rig;
  PlanBuilder &b = rig.builder;
  plan::Slice x = b.state(512), y = b.state(512), z = b.state(512), filled = b.step(100), copied = b.state(100);
  b.program("update");
  b.addFill(filled, 0xAB);
  b.addCopy(filled, copied);
  rig.call("axpy", x, y, Operand::READ_WRITE);
  rig.call("reverse", y, z);
  ASSERT_TRUE(rig.open());
  EXPECT_EQ(rig.get<float>(z), std::vector<float>(128)); // arenas begin as zeros, whatever the device gives
  rig.put(x, counting(128));
  rig.put(y, std::vector<float>(128, 1));
  for (int run = 1; run <= 3; ++run) { // step by step, captured, launched again
    Status status = rig.device->run(0);
    ASSERT_TRUE(status) << status.error().str();
    std::vector<float> yv = rig.get<float>(y), zv = rig.get<float>(z);
    for (int i = 0; i < 128; ++i) {
      ASSERT_EQ(yv[i], 1 + 2.0f * run * i) << run;
      ASSERT_EQ(zv[i], yv[i / 64 * 64 + 63 - i % 64]) << run;
    }
    EXPECT_EQ(rig.get<uint8_t>(copied), std::vector<uint8_t>(100, 0xAB));
  }
}

// One launch and one wait: anything else would be a call that a graph should hold.
TEST(CudaDevice, AnUpdateIsOneLaunch) {
  Rig rig;
  PlanBuilder &b = rig.builder;
  plan::Slice tokens = b.staging(256), x = b.step(256), sum = b.gradients(256), weight = b.state(256);
  plan::Slice loss = b.state(4);
  b.program("micro_step");
  b.addCopy(tokens, x);
  rig.call("axpy", x, sum, Operand::READ_WRITE);
  b.program("update");
  rig.call("axpy", sum, weight, Operand::READ_WRITE);
  plan::Slice first = weight;
  first.set_bytes(4);
  b.addCopy(first, loss);
  b.addFill(sum, 0);
  plan::Metric &metric = *b.file.plan.add_metrics();
  metric.set_name("loss");
  metric.set_program("update");
  metric.set_dtype(plan::F32);
  *metric.mutable_slice() = loss;
  ASSERT_TRUE(rig.open());

  std::span<std::byte> staged = rig.device->bytes(tokens);
  ASSERT_EQ(staged.size(), 256u);
  EXPECT_TRUE(rig.device->bytes(weight).empty()); // of the device alone
  const std::vector<int> sequence = {0, 0, 0, 1};
  std::vector<int> started;
  auto starts = [&](int program) { started.push_back(program); };
  float expected = 0;
  for (int update = 0; update < 4; ++update) {
    std::vector<float> values(64, static_cast<float>(update + 1));
    std::memcpy(staged.data(), values.data(), 256);
    expected += 2 * 3 * 2 * static_cast<float>(update + 1); // 2 x of each micro-step, 2 x of the update
    sim::forgetCalls();
    Status status = rig.device->runSequence(sequence, starts);
    ASSERT_TRUE(status) << status.error().str();
    EXPECT_EQ(rig.get<float>(loss).front(), expected);
    if (update >= 2)
      EXPECT_EQ(callNames(), (std::vector<std::string>{"cudaGraphLaunch", "cudaStreamSynchronize"}));
  }
  EXPECT_EQ(started, (std::vector<int>{0, 0, 0, 0}));
  EXPECT_EQ(rig.get<float>(weight), std::vector<float>(64, expected));
  EXPECT_EQ(rig.get<float>(sum), std::vector<float>(64));

  // What the host writes and what other programs change is not hidden by the copy that the launch brought.
  rig.put(loss, std::vector<float>{-5});
  EXPECT_EQ(rig.get<float>(loss).front(), -5);
  ASSERT_TRUE(rig.device->run(0));
  EXPECT_EQ(rig.get<float>(loss).front(), -5);
}

struct Choice {
  Rig rig;
  plan::Slice index = rig.builder.state(8), from = rig.builder.state(5 * 24), to = rig.builder.state(24);
  Choice() {
    rig.builder.program("update");
    plan::Step &step = rig.builder.addCopy(from, to);
    step.set_name("chosen");
    step.mutable_copy()->set_index(true);
    addOperand(step, index, Operand::READ, plan::I64);
  }
};

TEST(CudaDevice, CopiesWhatAnIndexChooses) {
  Choice choice;
  ASSERT_TRUE(choice.rig.open());
  std::vector<int64_t> values(15);
  std::iota(values.begin(), values.end(), 100);
  choice.rig.put(choice.from, values);
  for (int64_t i : {4, 0, 2}) {
    choice.rig.put(choice.index, std::vector<int64_t>{i});
    ASSERT_TRUE(choice.rig.device->run(0));
    EXPECT_EQ(choice.rig.get<int64_t>(choice.to), (std::vector<int64_t>{100 + 3 * i, 101 + 3 * i, 102 + 3 * i}));
  }
}

TEST(CudaDevice, AnIndexOutOfRangeIsAnErrorThatNamesTheStep) {
  for (int64_t bad : {int64_t{5}, int64_t{-1}}) {
    Choice choice;
    ASSERT_TRUE(choice.rig.open());
    ASSERT_TRUE(choice.rig.device->run(0));
    choice.rig.put(choice.index, std::vector<int64_t>{bad});
    Status status = choice.rig.device->run(0);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().str().find("an index is out of range"), std::string::npos);
    EXPECT_NE(status.error().str().find("step 0 'chosen'"), std::string::npos);
  }
}

// Poison must not change results, and must be where nothing lives.
TEST(CudaDevice, PoisonFillsWhatIsDead) {
  for (bool poison : {false, true}) {
    Rig rig;
    PlanBuilder &b = rig.builder;
    plan::Slice x = b.state(256), y = b.state(256), temporary = b.step(256);
    b.program("update");
    rig.call("reverse", x, temporary);
    rig.call("reverse", temporary, y);
    ASSERT_TRUE(rig.open({.poison = poison}));
    rig.put(x, counting(64));
    for (int run = 0; run < 2; ++run) {
      ASSERT_TRUE(rig.device->run(0));
      EXPECT_EQ(rig.get<float>(y), counting(64));
      EXPECT_EQ(rig.get<uint8_t>(temporary) == std::vector<uint8_t>(256, 0xFF), poison);
    }
  }
}

TEST(CudaDevice, MeasuresSteps) {
  Rig rig;
  plan::Slice x = rig.builder.state(256), y = rig.builder.state(256);
  rig.builder.program("update");
  rig.call("reverse", x, y);
  rig.builder.addFill(x, 0);
  ASSERT_TRUE(rig.open({.profile = true}));
  std::vector<int> started;
  sim::forgetCalls();
  ASSERT_TRUE(rig.device->runSequence(std::vector<int>{0, 0}, [&](int program) { started.push_back(program); }));
  EXPECT_EQ(started.size(), 2u);
  ASSERT_EQ(rig.device->stepSeconds(0).size(), 2u);
  EXPECT_GT(rig.device->stepSeconds(0)[0], 0);
  for (const char *call : sim::calls())
    EXPECT_STRNE(call, "cudaGraphLaunch");
}

TEST(CudaDevice, FreesWhatItAllocated) {
  {
    Rig rig;
    plan::Slice x = rig.builder.state(1000);
    rig.builder.program("update");
    rig.builder.addFill(x, 1);
    ASSERT_TRUE(rig.open());
    EXPECT_EQ(sim::allocatedBytes(), 1000u); // one allocation per arena, and nothing besides
  }
  EXPECT_EQ(sim::allocatedBytes(), 0u);
}

/// x is written in lane 1 and read in lane 0.
Rig twoLanes(bool waits) {
  Rig rig;
  PlanBuilder &b = rig.builder;
  plan::Slice x = b.state(256), y = b.state(256), z = b.state(256);
  b.program("update").set_signals(1);
  plan::Step &first = rig.call("reverse", z, x);
  first.set_lane(1);
  first.set_signal(1);
  plan::Step &second = rig.call("axpy", x, y, Operand::READ_WRITE);
  if (waits)
    second.add_waits(1);
  return rig;
}

TEST(CudaDevice, LanesMeetWhereAStepWaits) {
  Rig rig = twoLanes(true);
  EXPECT_EQ(rig.problem(), "");
  plan::Slice z = rig.file.plan.programs(0).steps(0).operands(0).slice();
  plan::Slice y = rig.file.plan.programs(0).steps(1).operands(1).slice();
  rig.put(z, counting(64));
  ASSERT_TRUE(rig.device->run(0));
  EXPECT_EQ(rig.get<float>(y)[0], 126);
}

TEST(CudaDevice, AMissingWaitIsFound) {
  Rig rig = twoLanes(false);
  ASSERT_TRUE(rig.open());
  ASSERT_TRUE(rig.device->run(0)); // step by step, nothing overlaps
  rig.put(rig.file.plan.programs(0).steps(0).operands(0).slice(), counting(64));
  Status status = rig.device->run(0);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().str().find("no event orders"), std::string::npos) << status.error().str();
}

} // namespace
