//===- DefectsTest.cpp - What the simulated device finds ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Simulated.h"
#include "test/gpu/backend/Rig.h"

#include <cmath>
#include <cuda_runtime.h>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

/// What is found in a step that calls a kernel on two slices of 128 floats.
std::string problemOf(const std::string &symbol, Operand::Access access = Operand::WRITE) {
  Rig rig;
  PlanBuilder &b = rig.builder;
  plan::Slice before = b.state(64), from = b.state(512), between = b.state(64), to = b.state(512), after = b.state(64);
  b.program("update");
  b.addFill(from, 0x40); // 3.004
  for (const plan::Slice &slice : {before, between, after})
    b.addFill(slice, 7);
  rig.call(symbol, from, to, access);
  return rig.problem();
}

struct Defect {
  const char *kernel, *found;
};

class Defects : public testing::TestWithParam<Defect> {};

TEST_P(Defects, AreFound) {
  std::string problem = problemOf(GetParam().kernel);
  EXPECT_NE(problem.find(GetParam().found), std::string::npos) << problem;
  EXPECT_NE(problem.find(std::string("step '") + GetParam().kernel + " step'"), std::string::npos) << problem;
  EXPECT_NE(problem.find(std::string("kernel ") + GetParam().kernel), std::string::npos) << problem;
}

INSTANTIATE_TEST_SUITE_P(Kernels, Defects,
                         testing::Values(Defect{"reverse_racing", "gives other bits"},
                                         Defect{"last_wins", "gives other bits"},
                                         Defect{"reads_what_it_writes", "gives other bits"},
                                         Defect{"reads_beyond", "gives other bits"},
                                         Defect{"writes_beyond", "writes what it does not declare"},
                                         Defect{"reads_far_away", "reads what it does not declare"},
                                         Defect{"reads_by_garbage", "reads what it does not declare"},
                                         Defect{"writes_its_input", "writes what it does not declare"},
                                         Defect{"splits_at_a_barrier", "waits at a barrier"}),
                         [](const auto &defect) { return std::string(defect.param.kernel); });

TEST(Defects, SoundKernelsPass) {
  EXPECT_EQ(problemOf("reverse"), "");
  EXPECT_EQ(problemOf("axpy", Operand::READ_WRITE), "");
}

// A kernel may leave bytes that nothing depends on. They stay undefined when they are copied, NaN when the host reads
// them, and an error where a result depends on them.
TEST(Defects, WhatAKernelLeavesUnwrittenMayBeCopiedButNotUsed) {
  constexpr size_t hole = 100, copied = 64 + 63 - (hole - 64);
  for (bool used : {false, true}) {
    Rig rig;
    PlanBuilder &b = rig.builder;
    plan::Slice from = b.state(512), holed = b.step(512), copy = b.state(512), sum = b.state(512);
    b.program("update");
    b.addFill(from, 0x40);
    rig.call("leaves_a_hole", from, holed);
    rig.call("reverse", holed, copy);
    if (used)
      rig.call("axpy", copy, sum, Operand::READ_WRITE);
    std::string problem = rig.problem();
    if (used) {
      EXPECT_NE(problem.find("step 'axpy step'"), std::string::npos) << problem;
      EXPECT_NE(problem.find("reads what nothing has written"), std::string::npos) << problem;
      continue;
    }
    EXPECT_EQ(problem, "");
    std::vector<float> values = rig.get<float>(copy);
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(std::isnan(values[i]), i == copied) << i;
  }
}

// Scratch of a step that has ended is nobody's.
TEST(Defects, OldScratchCanNotBeUsed) {
  Rig rig;
  PlanBuilder &b = rig.builder;
  plan::Slice from = b.state(512), scratch = b.step(512), sum = b.state(512);
  b.program("update");
  b.addFill(from, 0x40);
  rig.call("reverse", from, scratch, Operand::SCRATCH);
  rig.call("axpy", scratch, sum, Operand::READ_WRITE);
  std::string problem = rig.problem();
  EXPECT_NE(problem.find("reads what nothing has written"), std::string::npos) << problem;
}

// Of a plan that declares too little: each declared slice is needed.
TEST(Defects, ADroppedOperandIsFound) {
  for (int dropped : {0, 1}) {
    Rig rig;
    PlanBuilder &b = rig.builder;
    plan::Slice from = b.state(512), to = b.step(512), other = b.gradients(512);
    b.program("update");
    plan::Step &step = rig.call("reverse", from, to);
    // The kernel still gets the address; what is declared is another slice.
    step.mutable_kernel()->add_pointers(0);
    step.mutable_kernel()->add_pointers(1);
    plan::Operand real = step.operands(dropped);
    *step.mutable_operands(dropped)->mutable_slice() = other;
    *step.add_operands() = real;
    step.mutable_operands(2)->set_access(Operand::READ);
    step.mutable_kernel()->set_pointers(dropped, 2);
    if (dropped == 0) // declares to read the wrong place only
      step.mutable_operands(2)->mutable_slice()->set_bytes(4);
    EXPECT_NE(rig.problem(), "") << dropped;
  }
}

TEST(Defects, SharedMemoryBeyondTheOrdinaryIsGivenToKernelsThatAskForIt) {
  Rig rig;
  plan::Slice from = rig.builder.state(512), to = rig.builder.state(512);
  rig.builder.program("update");
  rig.call("reverse", from, to).mutable_kernel()->mutable_launch()->set_shared_bytes(100 << 10);
  EXPECT_EQ(rig.problem(), "");
}

class Capture : public testing::Test {
protected:
  void SetUp() override {
    sim::settings() = {};
    ASSERT_EQ(cudaMalloc(&device, 4096), cudaSuccess);
    ASSERT_EQ(cudaHostAlloc(&pinned, 4096, cudaHostAllocDefault), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    ASSERT_EQ(cudaMemsetAsync(device, 1, 4096, stream), cudaSuccess);
  }
  void TearDown() override {
    cudaStreamDestroy(stream);
    cudaFree(device);
    cudaFreeHost(pinned);
  }
  /// Ends the capture, which must have been invalidated: what comes after the refused call is refused too.
  void expectInvalid() {
    EXPECT_EQ(cudaMemsetAsync(device, 1, 4096, stream), cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
  }

  void *device = nullptr, *pinned = nullptr;
  cudaStream_t stream = nullptr;
};

TEST_F(Capture, RefusesAllocation) {
  void *more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 64), cudaErrorStreamCaptureUnsupported);
  expectInvalid();
}
TEST_F(Capture, RefusesRelease) {
  EXPECT_EQ(cudaFree(device), cudaErrorStreamCaptureUnsupported);
  expectInvalid();
}
TEST_F(Capture, RefusesToWait) {
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  expectInvalid();
}
TEST_F(Capture, RefusesToWaitForTheDevice) {
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  expectInvalid();
}
TEST_F(Capture, RefusesPageableMemory) {
  char bytes[64];
  EXPECT_EQ(cudaMemcpyAsync(bytes, device, 64, cudaMemcpyDeviceToHost, stream), cudaErrorStreamCaptureUnsupported);
  expectInvalid();
}
TEST_F(Capture, RefusesSynchronousCopies) {
  EXPECT_EQ(cudaMemcpy(pinned, device, 64, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureUnsupported);
  expectInvalid();
}
TEST_F(Capture, RefusesEventsFromOutside) {
  cudaEvent_t event = nullptr;
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, other), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream, event, 0), cudaErrorStreamCaptureIsolation);
  expectInvalid();
  cudaEventDestroy(event);
  cudaStreamDestroy(other);
}
TEST_F(Capture, RefusesStreamsThatDoNotComeBack) {
  cudaEvent_t event = nullptr;
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other, event, 0), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(device, 2, 64, other), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  cudaEventDestroy(event);
  cudaStreamDestroy(other);
}
TEST_F(Capture, CopiesFromPinnedMemoryWhenTheGraphRuns) {
  ASSERT_EQ(cudaMemcpyAsync(device, pinned, 64, cudaMemcpyHostToDevice, stream), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  std::memset(pinned, 9, 64);
  ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  unsigned char bytes[128];
  ASSERT_EQ(cudaMemcpy(bytes, device, 128, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(bytes[63], 9);
  EXPECT_EQ(bytes[64], 1);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

} // namespace
