//===- PoisonTest.cpp - Dead memory reads as NaN ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/core/TestSession.h"

#include <cmath>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

/// x -> a -> b -> y through the step arena, and a copy of `a` made after its last declared use.
struct Chain {
  PlanBuilder builder;
  plan::Slice x = builder.state(256), y = builder.state(256), late = builder.state(256);
  plan::Slice a = builder.step(256), b = builder.step(256);

  Chain() {
    builder.program("update");
    builder.addCopy(x, a);
    builder.addCopy(a, b);
    builder.addCopy(b, y);
  }
};

void put(Session &session, const plan::Slice &slice, float value) {
  for (float &element : view<float>(session, slice))
    element = value;
}

int64_t countNaN(Session &session, const plan::Slice &slice) {
  return std::ranges::count_if(view<float>(session, slice), [](float v) { return std::isnan(v); });
}

TEST(Poison, ChangesNoResult) {
  for (bool poison : {false, true}) {
    Chain chain;
    auto session = open(chain.builder.finish(), poison);
    ASSERT_TRUE(session);
    for (float value : {3.5f, 4.5f}) {
      put(*session, chain.x, value);
      ASSERT_TRUE(session->run(0));
      EXPECT_EQ(std::ranges::count(view<float>(*session, chain.y), value), 64);
      EXPECT_EQ(std::ranges::count(view<float>(*session, chain.x), value), 64); // state is never poisoned
    }
  }
}

// A kernel that keeps a pointer to a dead buffer: its step does not declare the read, as a wrong lifetime would not.
TEST(Poison, DeadBytesAreNaN) {
  Chain chain;
  uint32_t add = addKernels(chain.builder, fileBytes(MOE_TEST_KERNELS), {"add_size"});
  plan::Step &step = addCall(chain.builder, add, 64, 64, {0});
  addOperand(step, chain.a, Operand::SCRATCH);
  addOperand(step, chain.late, Operand::WRITE, plan::F32, {64});
  for (bool poison : {false, true}) {
    auto session = open(chain.builder.finish(), poison);
    ASSERT_TRUE(session);
    put(*session, chain.x, 2);
    ASSERT_TRUE(session->run(0));
    EXPECT_EQ(countNaN(*session, chain.late), poison ? 64 : 0);
    EXPECT_EQ(countNaN(*session, chain.y), 0);
  }
}

TEST(Poison, UnwrittenBytesAreNaNBeforeEachProgram) {
  PlanBuilder builder;
  plan::Slice a = builder.step(256), first = builder.state(256), y = builder.state(256);
  builder.program("reads");
  builder.addCopy(a, first);
  builder.program("writes");
  builder.addFill(a, 0);
  builder.addCopy(a, y);
  auto session = open(builder.finish(), true, /*trust=*/true);
  ASSERT_TRUE(session);
  for (int repeat = 0; repeat < 2; ++repeat) {
    put(*session, first, 0);
    ASSERT_TRUE(session->run(0));
    EXPECT_EQ(countNaN(*session, first), 64);
    ASSERT_TRUE(session->run(1));
    EXPECT_EQ(countNaN(*session, y), 0);
  }
}

TEST(Poison, OutputsSurviveTheirProgram) {
  PlanBuilder builder;
  plan::Slice out = builder.step(64);
  plan::Program &program = builder.program("forward");
  builder.addFill(out, 0);
  plan::Output &output = *program.add_outputs();
  output.set_dtype(plan::F32);
  output.add_shape(16);
  *output.mutable_slice() = out;
  auto session = open(builder.finish(), true);
  ASSERT_TRUE(session);
  ASSERT_TRUE(session->run(0));
  EXPECT_EQ(countNaN(*session, out), 0);
}

TEST(PoisonDeathTest, WritesBeyondAnArenaFault) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto overrun = [](bool before) {
    PlanBuilder builder;
    uint32_t kernel = addKernels(builder, fileBytes(MOE_TEST_KERNELS), {"overrun"});
    // 100 bytes of alignment 4: the arena ends at the guard exactly.
    builder.file.plan.mutable_arenas(1)->set_alignment(4);
    plan::Slice a = builder.step(100);
    builder.program("update");
    plan::Step &step = addCall(builder, kernel, 1, 1, {before ? -4096 : 100});
    addOperand(step, a, Operand::WRITE, plan::F32, {25});
    auto session = open(builder.finish(), true);
    (void)session->run(0);
  };
  EXPECT_EXIT(overrun(false), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(overrun(true), testing::KilledBySignal(SIGSEGV), "");
}

} // namespace
