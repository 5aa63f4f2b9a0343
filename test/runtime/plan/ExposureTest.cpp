//===- ExposureTest.cpp - Estimated times of collectives, counted by hand -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Exposure.h"
#include "test/runtime/plan/MeshPlan.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

/// One FLOP and one byte sent take a second each; nothing else takes time.
constexpr MachineEstimate kMachine = {1, 1, 1e30, 1, 0, 0};
constexpr int64_t kSecond = 1'000'000'000'000;

struct Timeline {
  Timeline() {
    addAxis(builder, "data", 2);
    builder.program("micro_step");
  }

  void compute(double seconds, std::vector<uint32_t> waits, uint32_t signal) {
    plan::Step &step = builder.addFill(builder.step(8), 0);
    step.set_flops(seconds);
    order(step, 0, waits, signal);
  }

  /// Gathers 4 float32 of two ranks: 16 s.
  void gather(uint32_t lane, std::vector<uint32_t> waits, uint32_t signal) {
    plan::Step &step = addCollective(builder, plan::Collective::ALL_GATHER, {0}, 4);
    addOperand(step, builder.step(16), plan::Operand::READ, plan::F32);
    addOperand(step, builder.step(32), plan::Operand::WRITE, plan::F32);
    order(step, lane, waits, signal);
  }

  void order(plan::Step &step, uint32_t lane, const std::vector<uint32_t> &waits, uint32_t signal) {
    step.set_lane(lane);
    step.set_signal(signal);
    for (uint32_t wait : waits)
      step.add_waits(wait);
    plan::Program &program = *builder.file.plan.mutable_programs(0);
    program.set_signals(std::max(program.signals(), signal));
  }

  /// Seconds that are exposed, of each collective.
  std::vector<int64_t> exposed() {
    const plan::Plan &plan = builder.file.plan;
    std::vector<int64_t> seconds;
    for (const Exposure &each : estimateExposure(plan, plan.programs(0), kMachine)) {
      EXPECT_EQ(each.time, 16 * kSecond) << each.step;
      seconds.push_back(each.exposed / kSecond);
    }
    return seconds;
  }

  PlanBuilder builder{1};
};

// Catches: a wait that is overlooked, computation of another time taken for cover.
TEST(Exposure, IsWhatComputationDoesNotCover) {
  Timeline line;
  line.compute(5, {}, 1);    // 0 to 5
  line.gather(1, {1}, 2);    // 5 to 21
  line.compute(10, {}, 0);   // 5 to 15
  line.compute(100, {2}, 0); // stands still from 15 to 21
  EXPECT_EQ(line.exposed(), (std::vector<int64_t>{6}));
}

// Catches: waiting for a collective that waits itself blamed on it alone.
TEST(Exposure, IsThatOfWhateverRunsMeanwhile) {
  Timeline line;
  line.compute(1, {}, 1);
  line.gather(1, {1}, 2);   // 1 to 17
  line.gather(1, {}, 3);    // 17 to 33
  line.compute(4, {}, 0);   // 1 to 5
  line.compute(20, {3}, 0); // stands still from 5 to 33, then until 53
  line.gather(1, {}, 4);    // 33 to 49
  EXPECT_EQ(line.exposed(), (std::vector<int64_t>{12, 16, 0}));
}

// Catches: a program that ends before its collectives do; a collective in the lane of computation that is free.
TEST(Exposure, LaneOfComputationAndEndOfProgram) {
  Timeline line;
  line.gather(0, {}, 1);  // 0 to 16, computation does nothing else
  line.gather(1, {1}, 0); // 16 to 32
  line.compute(3, {}, 0); // 16 to 19, and nothing until 32
  EXPECT_EQ(line.exposed(), (std::vector<int64_t>{16, 13}));
}

// A report gives times for the machine of the target. Catches: rates of another one, threads that count for nothing.
TEST(Exposure, MachinesAreThoseOfTheTarget) {
  EXPECT_EQ(MachineEstimate::of("cpu:native", 4).wideFlops, 4 * MachineEstimate::of("cpu:native", 1).wideFlops);
  EXPECT_GT(MachineEstimate::of("cuda:sm_90", 1).narrowFlops, MachineEstimate::of("cuda:sm_80", 1).narrowFlops);
  EXPECT_GT(MachineEstimate::of("cuda:sm_100", 1).memory, MachineEstimate::of("cuda:sm_90", 1).memory);
  EXPECT_EQ(kMachine.computing(3, 0, true), 3 * kSecond);
  EXPECT_EQ(kMachine.sending(3), 3 * kSecond);
}

} // namespace
