//===- RanksTest.cpp - Devices that send each other data ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/ThreadRanks.h"
#include "test/gpu/backend/Rig.h"
#include "test/runtime/comm/CollectiveChecks.h"
#include "test/runtime/plan/MeshPlan.h"

#include <functional>
#include <gmock/gmock.h>
#include <thread>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

/// Calls `body` on a thread for each rank. Settings of the simulated device are those of its caller.
void onRanks(int size, const std::function<void(Communicator &)> &body, double deadline = 60) {
  auto ranks = makeThreadRanks(size, {.deadline = deadline});
  std::vector<std::thread> threads;
  threads.reserve(ranks.size());
  for (auto &rank : ranks)
    threads.emplace_back([&, communicator = rank.get()] { body(*communicator); });
  for (std::thread &thread : threads)
    thread.join();
}

PlanBuilder builderFor(const plan::Plan &mesh) {
  PlanBuilder builder{1};
  builder.file.plan.mutable_target()->set_device("cuda");
  builder.file.plan.mutable_target()->set_name("simulated");
  *builder.file.plan.mutable_mesh() = mesh.mesh();
  return builder;
}

/// A rank with a plan.
struct Opened {
  PlanFile file;
  std::unique_ptr<Device> device = cuda::createCudaDevice();
  Status status;

  Opened(PlanBuilder &builder, Communicator &communicator) : file(builder.finish()) {
    status = device->prepare(file.plan, communicator.localRank());
    DeviceOptions options;
    options.communicator = &communicator;
    if (status)
      status = device->initialize(file, options);
  }
};

/// The collective as the only step of a plan, run step by step and as a graph.
Expected<std::vector<std::byte>> runOnDevice(Communicator &communicator, const CollectiveCall &call) {
  PlanBuilder builder = builderFor(call.mesh);
  const bool inPlace = call.work.in_place();
  plan::Slice input = builder.state(call.input.size()), output = builder.state(call.outputBytes);
  builder.program("update");
  plan::Step &step = builder.addStep("collective");
  *step.mutable_collective() = call.work;
  addOperand(step, input, inPlace ? Operand::READ_WRITE : Operand::READ, call.dtype);
  if (!inPlace)
    addOperand(step, output, Operand::WRITE, call.dtype);
  if (call.work.scratch_bytes() > 0)
    addOperand(step, builder.step(call.work.scratch_bytes()), Operand::SCRATCH);
  Opened rank(builder, communicator);
  Status status = rank.status;
  std::vector<std::byte> result(call.outputBytes), inputAfter(call.input.size());
  for (int run = 0; run < 2; ++run) {
    if (status)
      status = rank.device->write(input, call.input);
    if (status)
      status = rank.device->run(0);
  }
  if (status)
    status = rank.device->read(inPlace ? input : output, result);
  if (status)
    status = rank.device->read(input, inputAfter);
  if (!status)
    return tl::unexpected(std::move(status.error()));
  if (!inPlace && inputAfter != call.input)
    return error("its input has changed");
  return result;
}

TEST(CudaRanks, CollectivesGiveTheBitsOfPlainLoops) {
  for (int size : {2, 3, 4}) {
    sim::settings() = {};
    sim::settings().devices = size;
    onRanks(size, [&](Communicator &communicator) {
      EXPECT_EQ(checkCollectives(communicator, 100 + static_cast<uint64_t>(size), 40, runOnDevice), "");
    });
  }
}

/// Numbers 0 to 11 of a [2,6] tensor, plus 100 for each rank before this one, on data=2 expert=2.
TEST(CudaRanks, PartsAreTakenOutAndPutBack) {
  sim::settings() = {};
  sim::settings().devices = 4;
  onRanks(4, [&](Communicator &communicator) {
    plan::Plan mesh;
    for (int axis = 0; axis < 2; ++axis)
      mesh.add_mesh()->set_size(2);
    PlanBuilder builder = builderFor(mesh);
    plan::Slice input = builder.state(48), part = builder.state(24), padded = builder.state(96);
    plan::Slice partial = builder.state(48), changed = builder.state(48);
    builder.program("update");
    auto slice = [&](const plan::Slice &to, int64_t inner, bool pad) {
      plan::Step &step = builder.addStep(pad ? "pad" : "slice");
      step.mutable_axis_slice()->add_axes(1);
      step.mutable_axis_slice()->set_pad(pad);
      step.mutable_axis_slice()->mutable_parts()->set_outer(2);
      step.mutable_axis_slice()->mutable_parts()->set_inner(inner);
      addOperand(step, input, Operand::READ, plan::F32);
      addOperand(step, to, Operand::WRITE, plan::F32);
    };
    slice(part, 3, false);
    slice(padded, 6, true);
    plan::Step &first = builder.addStep("partial");
    first.mutable_as_partial()->add_axes(0);
    addOperand(first, input, Operand::READ, plan::F32);
    addOperand(first, partial, Operand::WRITE, plan::F32);
    plan::Step &second = builder.addStep("partial in place");
    second.mutable_as_partial()->add_axes(0);
    second.mutable_as_partial()->set_in_place(true);
    addOperand(second, changed, Operand::READ_WRITE, plan::F32);
    Opened rank(builder, communicator);
    ASSERT_TRUE(rank.status) << rank.status.error().str();
    const auto base = static_cast<float>(communicator.rank() * 100);
    const int data = communicator.rank() / 2, expert = communicator.rank() % 2;
    std::vector<float> numbers = counting(12, base);
    auto get = [&](const plan::Slice &from) {
      std::vector<float> values(from.bytes() / sizeof(float));
      EXPECT_TRUE(rank.device->read(from, std::as_writable_bytes(std::span(values))));
      return values;
    };
    for (int run = 0; run < 2; ++run) {
      ASSERT_TRUE(rank.device->write(input, std::as_bytes(std::span(numbers))));
      ASSERT_TRUE(rank.device->write(changed, std::as_bytes(std::span(numbers))));
      Status status = rank.device->run(0);
      ASSERT_TRUE(status) << status.error().str();
      std::vector<float> partNow = get(part), paddedNow = get(padded);
      for (int row = 0; row < 2; ++row) {
        for (int column = 0; column < 3; ++column)
          EXPECT_EQ(partNow[row * 3 + column], numbers[row * 6 + expert * 3 + column]);
        for (int column = 0; column < 12; ++column)
          EXPECT_EQ(paddedNow[row * 12 + column], column / 6 == expert ? numbers[row * 6 + column % 6] : 0);
      }
      EXPECT_EQ(get(partial), data == 0 ? numbers : std::vector<float>(12));
      EXPECT_EQ(get(changed), data == 0 ? numbers : std::vector<float>(12));
    }
  });
}

/// A plan for two ranks whose one step adds up 4 floats.
PlanBuilder sumOfTwo(plan::Slice &input) {
  plan::Plan mesh;
  mesh.add_mesh()->set_size(2);
  PlanBuilder builder = builderFor(mesh);
  input = builder.state(16);
  builder.program("update");
  plan::Step &step = addCollective(builder, plan::Collective::ALL_REDUCE, {0}, 4);
  step.mutable_collective()->set_in_place(true);
  step.mutable_collective()->set_scratch_bytes(16);
  addOperand(step, input, Operand::READ_WRITE, plan::F32);
  addOperand(step, builder.step(16), Operand::SCRATCH);
  return builder;
}

/// What two ranks say, in order.
std::vector<std::string> problems(const std::function<Status(Communicator &)> &body, double deadline = 60) {
  std::vector<std::string> texts(2);
  onRanks(
      2,
      [&](Communicator &communicator) {
        Status status = body(communicator);
        if (!status) {
          communicator.giveUp(status.error());
          texts[static_cast<size_t>(communicator.rank())] = status.error().str();
        }
      },
      deadline);
  return texts;
}

TEST(CudaRanks, TwoRanksNeedTwoDevices) {
  sim::settings() = {};
  auto texts = problems([](Communicator &communicator) {
    plan::Slice input;
    PlanBuilder builder = sumOfTwo(input);
    return Opened(builder, communicator).status;
  });
  for (const std::string &text : texts)
    EXPECT_THAT(
        text, testing::AllOf(testing::HasSubstr("two ranks use the same device"), testing::HasSubstr("ranks 0 and 1")));
}

TEST(CudaRanks, ARankThatCanNotGoOnEndsTheOthers) {
  sim::settings() = {};
  sim::settings().devices = 2;
  auto texts = problems([](Communicator &communicator) {
    plan::Slice input;
    PlanBuilder builder = sumOfTwo(input);
    if (communicator.rank() == 1) { // which then has no such kernel
      builder.file.plan.add_images()->set_format("host");
      builder.file.blobs.emplace_back(64, 'x');
    }
    return Opened(builder, communicator).status;
  });
  for (const std::string &text : texts)
    EXPECT_THAT(text, testing::AllOf(testing::HasSubstr("rank 1"), testing::HasSubstr("load the plan's kernels")));
}

TEST(CudaRanks, WaitingForARankThatStaysAwayEnds) {
  sim::settings() = {};
  sim::settings().devices = 2;
  sim::settings().patience = 1;
  auto texts = problems(
      [&](Communicator &communicator) -> Status {
        plan::Slice input;
        PlanBuilder builder = sumOfTwo(input);
        Opened rank(builder, communicator);
        communicator.setUpdate(7);
        for (int run = 0; run < (communicator.rank() == 0 ? 3 : 2); ++run)
          if (rank.status)
            rank.status = rank.device->run(0);
        return rank.status;
      },
      2);
  EXPECT_THAT(texts[0], testing::AllOf(testing::HasSubstr("rank 0 waited in vain for rank 1"),
                                       testing::HasSubstr("update 7"), testing::HasSubstr("step 0 'collective'")));
  EXPECT_EQ(texts[1], "");
}

TEST(CudaRanks, OtherAlgorithmsAreAnError) {
  sim::settings() = {};
  sim::settings().devices = 2;
  auto texts = problems([&](Communicator &communicator) {
    plan::Slice input;
    PlanBuilder builder = sumOfTwo(input);
    plan::Slice a = builder.state(64), b = builder.state(64), c = builder.state(64);
    // Rank 1 has a product that rank 0 does not have.
    if (communicator.rank() == 1) {
      plan::Step &step = builder.addStep("product");
      plan::Gemm &gemm = *step.mutable_gemm();
      gemm.set_batch(1);
      gemm.set_m(4);
      gemm.set_n(4);
      gemm.set_k(4);
      gemm.set_lda(4);
      gemm.set_ldb(4);
      gemm.set_ldc(4);
      addOperand(step, a, Operand::READ, plan::F32);
      addOperand(step, b, Operand::READ, plan::F32);
      addOperand(step, c, Operand::WRITE, plan::F32);
    }
    return Opened(builder, communicator).status;
  });
  for (const std::string &text : texts)
    EXPECT_THAT(text, testing::HasSubstr("two ranks compute products in different ways"));
}

} // namespace
