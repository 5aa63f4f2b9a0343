//===- Steps.cpp - Steps of a plan, ready to be enqueued ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Steps.h"

#include "runtime/cuda/Errors.h"
#include "runtime/cuda/kernels/Copy.h"
#include "runtime/plan/Structure.h"

#include <utility>

namespace moe::cuda {
namespace {

/// Calls a kernel of the plan: its parameters are pointers, then numbers.
class KernelStep final : public StepLaunch {
public:
  KernelStep(const plan::Step &step, const StepContext &context)
      : kernel(context.kernels[step.kernel().kernel()]), blocks(step.kernel().launch().blocks()),
        threads(step.kernel().launch().threads()), sharedBytes(step.kernel().launch().shared_bytes()),
        numbers(step.kernel().numbers().begin(), step.kernel().numbers().end()) {
    for (int operand : kernelPointers(step))
      pointers.push_back(context.address(step, operand));
    arguments.reserve(pointers.size() + numbers.size());
    for (void *&pointer : pointers)
      arguments.push_back(static_cast<void *>(&pointer));
    for (int64_t &number : numbers)
      arguments.push_back(&number);
  }

  Status enqueue(cudaStream_t stream) override {
    return check(cudaLaunchKernel(reinterpret_cast<const void *>(kernel), dim3(blocks), dim3(threads), arguments.data(),
                                  sharedBytes, stream),
                 "launch a kernel");
  }

private:
  cudaKernel_t kernel;
  uint32_t blocks, threads;
  size_t sharedBytes;
  std::vector<void *> pointers;
  std::vector<int64_t> numbers;
  std::vector<void *> arguments; ///< addresses of both
};

class GemmStep final : public StepLaunch {
public:
  explicit GemmStep(GemmLaunch launch) : launch(std::move(launch)) {}
  Status enqueue(cudaStream_t stream) override { return launch.enqueue(stream); }

private:
  GemmLaunch launch;
};

GemmTypes typesOf(const plan::Step &step) {
  return {step.operands(0).dtype(), step.operands(1).dtype(), step.operands(2).dtype(),
          step.gemm().has_bias() ? step.operands(3).dtype() : plan::F32};
}

Expected<std::unique_ptr<StepLaunch>> createGemmStep(const plan::Step &step, const StepContext &context) {
  const plan::Gemm &gemm = step.gemm();
  GemmPointers pointers;
  pointers.a = context.address(step, 0);
  pointers.b = context.address(step, 1);
  pointers.c = context.address(step, 2);
  if (gemm.has_bias())
    pointers.bias = context.address(step, 3);
  if (gemm.scratch_bytes() > 0) {
    pointers.workspace = context.address(step, step.operands_size() - 1);
    pointers.workspaceBytes = gemm.scratch_bytes();
  }
  auto launch = GemmLaunch::create(*context.library, gemm, typesOf(step), pointers);
  if (!launch)
    return tl::unexpected(std::move(launch.error()));
  return std::make_unique<GemmStep>(std::move(*launch));
}

class FillStep final : public StepLaunch {
public:
  FillStep(const plan::Step &step, const StepContext &context)
      : destination(context.address(step, 0)), bytes(step.operands(0).slice().bytes()),
        value(static_cast<int>(step.fill().byte())) {}

  Status enqueue(cudaStream_t stream) override {
    return check(cudaMemsetAsync(destination, value, bytes, stream), "enqueue a fill");
  }

private:
  std::byte *destination;
  size_t bytes;
  int value;
};

class CopyStep final : public StepLaunch {
public:
  CopyStep(const plan::Step &step, const StepContext &context)
      : source(context.address(step, 0)), destination(context.address(step, 1)),
        bytes(step.operands(1).slice().bytes()) {}

  Status enqueue(cudaStream_t stream) override {
    return check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToDevice, stream), "enqueue a copy");
  }

private:
  const std::byte *source;
  std::byte *destination;
  size_t bytes;
};

class IndexedCopyStep final : public StepLaunch {
public:
  IndexedCopyStep(const plan::Step &step, const StepContext &context, int32_t *outside) {
    copy.from = context.address(step, 0);
    copy.to = context.address(step, 1);
    copy.index = reinterpret_cast<const int64_t *>(context.address(step, 2));
    copy.bytes = static_cast<int64_t>(step.operands(1).slice().bytes());
    copy.items = copy.bytes > 0 ? static_cast<int64_t>(step.operands(0).slice().bytes()) / copy.bytes : 0;
    copy.outside = outside;
  }

  Status enqueue(cudaStream_t stream) override {
    return check(copyIndexed(copy, stream), "launch a copy whose source the device chooses");
  }

private:
  IndexedCopy copy;
};

} // namespace

Status checkStep(const plan::Step &step) {
  switch (step.work_case()) {
  case plan::Step::kKernel:
    if (step.kernel().launch().blocks() == 0 || step.kernel().launch().threads() == 0)
      return error("a kernel of the plan is launched without threads", {}, {},
                   "compile the model again with the moec of this release");
    return {};
  case plan::Step::kGemm:
    return checkGemm(step.gemm(), typesOf(step));
  case plan::Step::kAttention:
  case plan::Step::kRoute:
  case plan::Step::kGroupedGemm:
  case plan::Step::kScatterAdd:
    return checkMoeStep(step);
  case plan::Step::kFill:
  case plan::Step::kCopy:
  case plan::Step::kCollective:
  case plan::Step::kAxisSlice:
  case plan::Step::kAsPartial:
    return {};
  case plan::Step::WORK_NOT_SET:
    break;
  }
  return error("the CUDA backend does not know this kind of step");
}

bool hasIndex(const plan::Step &step) {
  return step.has_scatter_add() || step.has_grouped_gemm() || (step.has_copy() && step.copy().index());
}

Expected<std::unique_ptr<StepLaunch>> createStep(const plan::Step &step, const StepContext &context, int32_t *outside) {
  switch (step.work_case()) {
  case plan::Step::kKernel:
    return std::make_unique<KernelStep>(step, context);
  case plan::Step::kGemm:
    return createGemmStep(step, context);
  case plan::Step::kRoute:
    return createRouteStep(step, context);
  case plan::Step::kGroupedGemm:
    return createGroupedGemmStep(step, context, outside);
  case plan::Step::kScatterAdd:
    return createScatterAddStep(step, context, outside);
  case plan::Step::kFill:
    return std::make_unique<FillStep>(step, context);
  case plan::Step::kCopy:
    if (step.copy().index())
      return std::make_unique<IndexedCopyStep>(step, context, outside);
    return std::make_unique<CopyStep>(step, context);
  case plan::Step::kAttention:
    return createAttentionStep(step, context);
  case plan::Step::kCollective:
  case plan::Step::kAxisSlice:
  case plan::Step::kAsPartial:
    return createCommStep(step, context);
  case plan::Step::WORK_NOT_SET:
    break;
  }
  return error("a step has not been checked", {}, {}, {}, ExitCode::Internal);
}

} // namespace moe::cuda
