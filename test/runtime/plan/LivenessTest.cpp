//===- LivenessTest.cpp - Dead bytes, against a simulation byte by byte -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Liveness.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <gtest/gtest.h>
#include <random>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

plan::Slice part(plan::Slice slice, uint64_t offset, uint64_t bytes) {
  slice.set_offset(offset);
  slice.set_bytes(bytes);
  return slice;
}

TEST(Liveness, ValuesDieAfterTheirLastReader) {
  PlanBuilder builder;
  plan::Slice a = builder.step(64), b = builder.step(64), state = builder.state(64);
  builder.program("p");
  builder.addFill(a, 1);
  builder.addCopy(a, b);
  builder.addCopy(part(a, 0, 32), part(state, 0, 32));
  builder.addCopy(b, state);
  auto dead = deadAfterSteps(builder.file.plan, builder.file.plan.programs(0));
  ASSERT_EQ(dead.size(), 4u);
  EXPECT_TRUE(dead[0].empty());
  EXPECT_EQ(dead[1], (std::vector<ByteRange>{{1, 32, 64}})); // the second half of a
  EXPECT_EQ(dead[2], (std::vector<ByteRange>{{1, 0, 32}}));
  EXPECT_EQ(dead[3], (std::vector<ByteRange>{{1, 64, 128}}));
}

/// Whether byte `at` of the step arena is read after step `s` before it is written; outputs are read at the end.
bool isLive(const plan::Plan &plan, int s, uint64_t at) {
  const plan::Program &program = plan.programs(0);
  auto covers = [&](const plan::Slice &slice) {
    const plan::Buffer &buffer = plan.buffers(slice.buffer());
    uint64_t begin = buffer.offset() + slice.offset();
    return buffer.arena() == 1 && at >= begin && at < begin + slice.bytes();
  };
  for (int i = s + 1; i < program.steps_size(); ++i) {
    for (const Operand &operand : program.steps(i).operands())
      if (covers(operand.slice()) && (operand.access() == Operand::READ || operand.access() == Operand::READ_WRITE))
        return true;
    for (const Operand &operand : program.steps(i).operands())
      if (covers(operand.slice()))
        return false;
  }
  return std::ranges::any_of(program.outputs(), [&](const plan::Output &output) { return covers(output.slice()); });
}

TEST(Liveness, AgreesWithASimulationByteByByte) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    PlanBuilder builder;
    plan::Slice all = builder.step(48);
    plan::Program &program = builder.program("p");
    auto anyPart = [&] {
      uint64_t begin = random() % 48;
      return part(all, begin, random() % (49 - begin));
    };
    for (int s = 0; s < 8; ++s) {
      plan::Step &step = builder.addStep("s");
      for (unsigned i = 0; i < 1 + random() % 3; ++i)
        addOperand(step, anyPart(), static_cast<Operand::Access>(1 + random() % 4));
    }
    *program.add_outputs()->mutable_slice() = anyPart();
    const plan::Plan &plan = builder.file.plan;
    auto dead = deadAfterSteps(plan, program);
    for (int s = 0; s < 8; ++s)
      for (uint64_t at = 0; at < 48; ++at) {
        bool touched = false, scratch = false, reported = false;
        for (const Operand &operand : program.steps(s).operands())
          if (at >= operand.slice().offset() && at < operand.slice().offset() + operand.slice().bytes()) {
            touched = true;
            scratch |= operand.access() == Operand::SCRATCH;
          }
        for (const ByteRange &range : dead[s])
          reported |= at >= range.begin && at < range.end;
        ASSERT_EQ(reported, touched && (scratch || !isLive(plan, s, at))) << "trial " << trial << " step " << s;
      }
  }
}

} // namespace
