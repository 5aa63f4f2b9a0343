//===- ProfileTest.cpp - Where the time of an update goes --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Profile.h"

#include "test/runtime/FakeSession.h"

#include <cstring>
#include <gtest/gtest.h>
#include <set>

using namespace moe;
using namespace moe::test;

namespace {

/// A session that says how long its steps took.
class TimedSession final : public Session {
public:
  TimedSession() {
    plan::Program &microStep = *message.add_programs(), &update = *message.add_programs();
    microStep.set_name("micro_step");
    update.set_name("update");
    microStep.add_steps()->mutable_gemm();
    microStep.mutable_steps(0)->set_flops(100);
    microStep.add_steps()->mutable_attention()->set_backward(true);
    update.add_steps()->mutable_kernel()->set_kernel(1);
    message.add_kernels()->set_emitter("loop");
    message.add_kernels()->set_emitter("row_reduce");
    message.mutable_training()->set_accumulate(3);
  }
  const plan::Plan &plan() const override { return message; }
  int programIndex(std::string_view) const override { return -1; }
  Status run(int) override { return {}; }
  std::span<const double> stepSeconds(int program) const override { return seconds[program]; }
  std::span<std::byte> bytes(const plan::Slice &) override { return {}; }
  double metric(int) const override { return 0; }

  plan::Plan message;
  std::vector<double> seconds[2];
};

} // namespace

TEST(Profile, TakesTheLeastTimeAndCountsMicroSteps) {
  TimedSession session;
  Profile profile(session, 0, 1);
  session.seconds[0] = {4, 1};
  session.seconds[1] = {10};
  profile.record(0);
  profile.record(1);
  session.seconds[0] = {2, 8};
  profile.record(0);
  // Three micro-steps of 2 + 1 seconds and one update of 10.
  EXPECT_DOUBLE_EQ(profile.seconds(), 19);
  EXPECT_DOUBLE_EQ(profile.productSeconds(), 9);
  std::map<std::string, KindProfile> kinds = profile.kinds();
  ASSERT_EQ(kinds.size(), 3u);
  EXPECT_DOUBLE_EQ(kinds["gemm"].seconds, 6);
  EXPECT_DOUBLE_EQ(kinds["gemm"].flops, 300);
  EXPECT_EQ(kinds["gemm"].steps, 3);
  EXPECT_DOUBLE_EQ(kinds["attention_backward"].seconds, 3);
  EXPECT_DOUBLE_EQ(kinds["row_reduce"].seconds, 10);
}

TEST(Profile, CountsWhatAStepMoves) {
  plan::Step step;
  auto add = [&](uint64_t bytes, plan::Operand::Access access) {
    plan::Operand &operand = *step.add_operands();
    operand.mutable_slice()->set_bytes(bytes);
    operand.set_access(access);
  };
  add(1, plan::Operand::READ);
  add(10, plan::Operand::WRITE);
  add(100, plan::Operand::READ_WRITE);
  add(1000, plan::Operand::SCRATCH);
  EXPECT_EQ(stepBytes(step), 211);
}

TEST(Profile, DrawsValidTokens) {
  for (plan::DType type : {plan::I64, plan::I32}) {
    FakeOptions options;
    options.batch = 64;
    options.length = 64;
    options.vocabulary = 8;
    options.padId = 5;
    options.tokenType = type;
    FakeSession session(options);
    stageRandomTokens(session, 3);
    for (const plan::Input &input : session.plan().inputs()) {
      std::span<std::byte> bytes = session.bytes(input.staging());
      size_t width = type == plan::I64 ? 8 : 4;
      std::set<int64_t> seen;
      for (size_t i = 0; i < bytes.size(); i += width) {
        int64_t token = 0;
        std::memcpy(&token, bytes.data() + i, width);
        seen.insert(token);
      }
      EXPECT_EQ(seen, (std::set<int64_t>{0, 1, 2, 3, 4, 6, 7}));
    }
  }
}
