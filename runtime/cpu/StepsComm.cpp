//===- StepsComm.cpp - Steps between ranks, ready to run ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Collective.h"
#include "runtime/cpu/Steps.h"
#include "runtime/plan/Collectives.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace moe::cpu {
namespace {

constexpr int64_t kBytesPerThread = 256 << 10;

class CollectiveStep final : public StepRunner {
public:
  explicit CollectiveStep(Collective collective) : collective(std::move(collective)) {}
  Status run() override { return collective.run(); }

private:
  Collective collective;
};

/// Takes this rank's part out of a tensor, or puts it into one of zeros.
class AxisSliceStep final : public StepRunner {
public:
  AxisSliceStep(const plan::Step &step, const StepContext &context, int64_t ranks, int64_t index)
      : pool(context.pool), source(context.address(step, 0)), destination(context.address(step, 1)),
        outer(step.axis_slice().parts().outer()),
        row(static_cast<size_t>(step.axis_slice().parts().inner()) * elementBytes(step.operands(0).dtype())),
        ranks(static_cast<size_t>(ranks)), index(static_cast<size_t>(index)), pad(step.axis_slice().pad()) {}

  Status run() override {
    const int64_t rowsPerThread = std::max<int64_t>(1, kBytesPerThread / static_cast<int64_t>(pad ? row * ranks : row));
    pool.parallelFor(outer, rowsPerThread, [this](int64_t begin, int64_t end, int) {
      for (auto o = static_cast<size_t>(begin); o < static_cast<size_t>(end); ++o) {
        if (!pad) {
          std::memcpy(destination + o * row, source + (o * ranks + index) * row, row);
          continue;
        }
        std::byte *parts = destination + o * ranks * row;
        std::memset(parts, 0, index * row);
        std::memcpy(parts + index * row, source + o * row, row);
        std::memset(parts + (index + 1) * row, 0, (ranks - index - 1) * row);
      }
    });
    return {};
  }

private:
  ThreadPool pool;
  const std::byte *source;
  std::byte *destination;
  int64_t outer;
  size_t row; ///< bytes
  size_t ranks;
  size_t index;
  bool pad;
};

class AsPartialStep final : public StepRunner {
public:
  AsPartialStep(const plan::Step &step, const StepContext &context, bool keeps)
      : pool(context.pool), source(context.address(step, 0)),
        destination(context.address(step, step.as_partial().in_place() ? 0 : 1)),
        bytes(step.operands(0).slice().bytes()), keeps(keeps) {}

  Status run() override {
    if (keeps && source == destination)
      return {};
    pool.parallelFor(static_cast<int64_t>(bytes), kBytesPerThread, [this](int64_t begin, int64_t end, int) {
      if (keeps)
        std::memcpy(destination + begin, source + begin, static_cast<size_t>(end - begin));
      else
        std::memset(destination + begin, 0, static_cast<size_t>(end - begin));
    });
    return {};
  }

private:
  ThreadPool pool;
  const std::byte *source;
  std::byte *destination;
  uint64_t bytes;
  bool keeps;
};

} // namespace

Expected<std::unique_ptr<StepRunner>> createCollectiveStep(const plan::Step &step, const StepContext &context,
                                                           const std::string &place) {
  const plan::Collective &work = step.collective();
  if (!context.communicator)
    return error("work between ranks needs a communicator", {}, {}, {}, ExitCode::Internal);
  plan::DType dtype = step.operands(0).dtype();
  CollectivePointers pointers{context.address(step, 0), context.address(step, work.in_place() ? 0 : 1)};
  if (work.scratch_bytes() > 0)
    pointers.scratch = context.address(step, step.operands_size() - 1);
  auto group = context.communicator->group(groupMembers(*context.plan, work.axes(), context.communicator->rank()));
  return std::make_unique<CollectiveStep>(Collective(work, dtype, pointers, std::move(group), context.pool, place));
}

Expected<std::unique_ptr<StepRunner>> createAxisSliceStep(const plan::Step &step, const StepContext &context) {
  const AxisList &axes = step.axis_slice().axes();
  return std::make_unique<AxisSliceStep>(step, context, static_cast<int64_t>(groupSize(*context.plan, axes)),
                                         groupIndex(*context.plan, axes, context.axisIndex));
}

Expected<std::unique_ptr<StepRunner>> createAsPartialStep(const plan::Step &step, const StepContext &context) {
  return std::make_unique<AsPartialStep>(step, context,
                                         groupIndex(*context.plan, step.as_partial().axes(), context.axisIndex) == 0);
}

} // namespace moe::cpu
