//===- Steps.cpp - Steps of a plan, ready to run ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Steps.h"

#include "runtime/cpu/Gemm.h"
#include "runtime/plan/Structure.h"

#include <cstring>
#include <string>
#include <utility>

namespace moe::cpu {
namespace {

/// Bytes below which a second thread costs more to wake than it moves.
constexpr int64_t kBytesPerThread = 256 << 10;

class KernelStep final : public StepRunner {
public:
  KernelStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), function(context.kernels[step.kernel().kernel()]), extent(step.kernel().extent()),
        grain(step.kernel().grain()), numbers(step.kernel().numbers().begin(), step.kernel().numbers().end()) {
    for (int operand : kernelPointers(step))
      pointers.push_back(context.address(step, operand));
    arguments = {pointers.data(), numbers.data(), context.axisIndex.data()};
  }

  Status run() override {
    pool.parallelFor(extent, grain, [this](int64_t begin, int64_t end, int) { function(&arguments, begin, end); });
    return {};
  }

private:
  ThreadPool pool;
  MoeKernelFn function;
  int64_t extent;
  int64_t grain;
  std::vector<int64_t> numbers;
  std::vector<void *> pointers;
  MoeKernelArgs arguments{};
};

class GemmStep final : public StepRunner {
public:
  explicit GemmStep(GemmPrimitive primitive) : primitive(std::move(primitive)) {}
  Status run() override { return primitive.run(); }

private:
  GemmPrimitive primitive;
};

Expected<std::unique_ptr<StepRunner>> createGemmStep(const plan::Step &step, const StepContext &context) {
  const plan::Gemm &gemm = step.gemm();
  GemmTypes types = {step.operands(0).dtype(), step.operands(1).dtype(), step.operands(2).dtype(),
                     gemm.has_bias() ? step.operands(3).dtype() : plan::F32};
  auto primitive = GemmPrimitive::create(gemm, types, context.pool.threads());
  if (!primitive)
    return tl::unexpected(std::move(primitive.error()));
  if (Status status = requireScratch(primitive->scratchBytes(), gemm.scratch_bytes(), "a matrix product"); !status)
    return tl::unexpected(std::move(status.error()));
  GemmPointers pointers = {context.address(step, 0), context.address(step, 1), context.address(step, 2)};
  if (gemm.has_bias())
    pointers.bias = context.address(step, 3);
  if (gemm.scratch_bytes() > 0)
    pointers.scratch = context.address(step, step.operands_size() - 1);
  if (Status status = primitive->bind(pointers); !status)
    return tl::unexpected(std::move(status.error()));
  return std::make_unique<GemmStep>(std::move(*primitive));
}

class FillStep final : public StepRunner {
public:
  FillStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), destination(context.address(step, 0)),
        bytes(static_cast<int64_t>(step.operands(0).slice().bytes())), value(static_cast<int>(step.fill().byte())) {}

  Status run() override {
    pool.parallelFor(bytes, kBytesPerThread, [this](int64_t begin, int64_t end, int) {
      std::memset(destination + begin, value, static_cast<size_t>(end - begin));
    });
    return {};
  }

private:
  ThreadPool pool;
  std::byte *destination;
  int64_t bytes;
  int value;
};

class CopyStep final : public StepRunner {
public:
  CopyStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), source(context.address(step, 0)), destination(context.address(step, 1)),
        sourceBytes(static_cast<int64_t>(step.operands(0).slice().bytes())),
        bytes(static_cast<int64_t>(step.operands(1).slice().bytes())) {
    if (step.copy().index())
      index = reinterpret_cast<const int64_t *>(context.address(step, 2));
  }

  Status run() override {
    const std::byte *from = source;
    if (index) {
      int64_t parts = bytes > 0 ? sourceBytes / bytes : 0;
      if (*index < 0 || *index >= parts)
        return error("a copy reads beyond its source", {},
                     "its index is " + std::to_string(*index) + ", the source has " + std::to_string(parts) + " parts");
      from += *index * bytes;
    }
    pool.parallelFor(bytes, kBytesPerThread, [&](int64_t begin, int64_t end, int) {
      std::memcpy(destination + begin, from + begin, static_cast<size_t>(end - begin));
    });
    return {};
  }

private:
  ThreadPool pool;
  const std::byte *source;
  std::byte *destination;
  int64_t sourceBytes;
  int64_t bytes;
  const int64_t *index = nullptr;
};

} // namespace

Status requireScratch(uint64_t needed, uint64_t given, const char *work) {
  if (needed <= given)
    return {};
  return error(std::string("the plan gives ") + work + " too little scratch memory", {},
               "it needs " + std::to_string(needed) + " bytes on this machine, the plan has " + std::to_string(given),
               "compile the model on this machine, with the libraries that it has");
}

Expected<std::unique_ptr<StepRunner>> createStep(const plan::Step &step, const StepContext &context,
                                                 const std::string &place) {
  switch (step.work_case()) {
  case plan::Step::kKernel:
    return std::make_unique<KernelStep>(step, context);
  case plan::Step::kGemm:
    return createGemmStep(step, context);
  case plan::Step::kAttention:
    return createAttentionStep(step, context);
  case plan::Step::kRoute:
    return createRouteStep(step, context);
  case plan::Step::kGroupedGemm:
    return createGroupedGemmStep(step, context);
  case plan::Step::kScatterAdd:
    return createScatterAddStep(step, context);
  case plan::Step::kFill:
    return std::make_unique<FillStep>(step, context);
  case plan::Step::kCopy:
    return std::make_unique<CopyStep>(step, context);
  case plan::Step::kCollective:
    return createCollectiveStep(step, context, place);
  case plan::Step::kAxisSlice:
    return createAxisSliceStep(step, context);
  case plan::Step::kAsPartial:
    return createAsPartialStep(step, context);
  case plan::Step::WORK_NOT_SET:
    break;
  }
  return error("the CPU backend does not know this kind of step");
}

} // namespace moe::cpu
