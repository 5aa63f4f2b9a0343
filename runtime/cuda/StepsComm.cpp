//===- StepsComm.cpp - Steps between ranks, ready to be enqueued --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The same blocks, sums and scratch as on hosts (runtime/cpu/Collective.h): the summands of a part come to the rank
// that owns it, which adds them up in the order of the group.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Errors.h"
#include "runtime/cuda/Ranks.h"
#include "runtime/cuda/Steps.h"
#include "runtime/cuda/kernels/Blocks.h"
#include "runtime/plan/Collectives.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"

#include <optional>
#include <utility>

namespace moe::cuda {
namespace {

Status moved(const RowMove &move, cudaStream_t stream) {
  return check(moveRows(move, stream), "launch a kernel that moves blocks");
}

Summand summandOf(plan::DType dtype) {
  switch (dtype) {
  case plan::BF16:
    return Summand::Bf16;
  case plan::I32:
    return Summand::Int32;
  case plan::I64:
    return Summand::Int64;
  case plan::BOOL:
    return Summand::Flag;
  default:
    return Summand::Float32;
  }
}

/// Blocks of `parts` that lie apart in a tensor, one after the other in memory, or back.
RowMove blocksOf(const plan::Parts &parts, int64_t ranks, size_t width, const std::byte *tensor, std::byte *blocks) {
  return {.from = tensor,
          .to = blocks,
          .bytes = parts.inner() * static_cast<int64_t>(width),
          .outer = ranks,
          .inner = parts.outer(),
          .fromOuter = 1,
          .fromInner = ranks,
          .toOuter = parts.outer(),
          .toInner = 1};
}
RowMove tensorOf(const plan::Parts &parts, int64_t ranks, size_t width, const std::byte *blocks, std::byte *tensor) {
  RowMove move = blocksOf(parts, ranks, width, blocks, tensor);
  std::swap(move.fromOuter, move.toOuter);
  std::swap(move.fromInner, move.toInner);
  return move;
}

/// What a collective does, one after the other; some of it is nothing.
class CollectiveStep final : public StepLaunch {
public:
  CollectiveStep(const plan::Step &step, const StepContext &context, DeviceGroup *members)
      : group(members), ranks(members ? members->size() : 1), width(elementBytes(step.operands(0).dtype())) {
    const plan::Collective &work = step.collective();
    input = context.address(step, 0);
    output = context.address(step, work.in_place() ? 0 : 1);
    std::byte *scratch = context.address(step, step.operands_size() - 1); // if there is any
    sum.ranks = ranks;
    sum.type = summandOf(step.operands(0).dtype());
    sum.maximum = work.reduction() == plan::Collective::MAX || sum.type == Summand::Flag;
    if (!group) {
      copied = static_cast<size_t>(work.count()) * width;
      return;
    }
    switch (work.kind()) {
    case plan::Collective::ALL_REDUCE:
      planAllReduce(work, scratch);
      break;
    case plan::Collective::ALL_GATHER:
      planAllGather(work, scratch);
      break;
    case plan::Collective::REDUCE_SCATTER:
      planReduceScatter(work, scratch);
      break;
    default:
      planAllToAll(work, scratch);
      break;
    }
  }

  Status enqueue(cudaStream_t stream) override {
    if (!group)
      return input == output
                 ? Status()
                 : check(cudaMemcpyAsync(output, input, copied, cudaMemcpyDeviceToDevice, stream), "enqueue a copy");
    Status status = pack ? moved(*pack, stream) : Status();
    if (status)
      status = gathers ? group->allGather(input, gathered, copied, stream) : group->exchange(sends, receives, stream);
    if (status && sum.count > 0)
      status = check(sumParts(sum, stream), "launch a kernel that adds up parts");
    if (status && !resultSends.empty())
      status = group->exchange(resultSends, resultReceives, stream);
    if (status && unpack)
      status = moved(*unpack, stream);
    return status;
  }

private:
  void planAllReduce(const plan::Collective &work, std::byte *scratch) {
    const auto members = static_cast<uint64_t>(ranks), own = static_cast<uint64_t>(group->index());
    const SummedParts parts(static_cast<uint64_t>(work.count()), members);
    const size_t ownBegin = parts.begin(own) * width, ownBytes = parts.size(own) * width;
    for (uint64_t rank = 0; rank < members; ++rank) {
      const size_t begin = parts.begin(rank) * width, bytes = parts.size(rank) * width;
      sends.push_back({input + begin, bytes});
      receives.push_back({scratch + rank * parts.block * width, ownBytes});
      resultSends.push_back({output + ownBegin, ownBytes});
      resultReceives.push_back({output + begin, bytes});
    }
    sum.parts = scratch;
    sum.stride = static_cast<int64_t>(parts.block);
    sum.count = static_cast<int64_t>(parts.size(own));
    sum.target = output + ownBegin;
  }

  void planAllGather(const plan::Collective &work, std::byte *scratch) {
    const bool unpacks = work.concat().outer() > 1;
    gathers = true;
    copied = static_cast<size_t>(work.count()) * width;
    gathered = unpacks ? scratch : output;
    if (unpacks)
      unpack = tensorOf(work.concat(), ranks, width, scratch, output);
  }

  void planReduceScatter(const plan::Collective &work, std::byte *scratch) {
    const int64_t block = work.count() / ranks;
    const std::byte *from = input;
    std::byte *summands = scratch;
    if (work.split().outer() > 1) {
      pack = blocksOf(work.split(), ranks, width, input, scratch);
      from = scratch;
      summands += static_cast<size_t>(work.count()) * width;
    }
    exchangeBlocks(from, summands, static_cast<size_t>(block) * width);
    sum.parts = summands;
    sum.stride = sum.count = block;
    sum.target = output;
  }

  void planAllToAll(const plan::Collective &work, std::byte *scratch) {
    const size_t bytes = static_cast<size_t>(work.count()) * width;
    const bool packs = work.split().outer() > 1;
    const std::byte *from = input;
    std::byte *to = output;
    if (packs) {
      pack = blocksOf(work.split(), ranks, width, input, scratch);
      from = scratch;
    }
    if (work.concat().outer() > 1) {
      to = scratch + (packs ? bytes : 0);
      unpack = tensorOf(work.concat(), ranks, width, to, output);
    }
    exchangeBlocks(from, to, bytes / static_cast<size_t>(ranks));
  }

  void exchangeBlocks(const std::byte *from, std::byte *to, size_t bytes) {
    for (size_t rank = 0; rank < static_cast<size_t>(ranks); ++rank) {
      sends.push_back({from + rank * bytes, bytes});
      receives.push_back({to + rank * bytes, bytes});
    }
  }

  DeviceGroup *group; ///< null: this rank alone
  int64_t ranks;
  size_t width; ///< bytes of an element
  const std::byte *input = nullptr;
  std::byte *output = nullptr, *gathered = nullptr;
  size_t copied = 0;
  bool gathers = false; ///< instead of `sends`
  std::optional<RowMove> pack, unpack;
  std::vector<SentBlock> sends, resultSends;
  std::vector<ReceivedBlock> receives, resultReceives;
  PartsSum sum;
};

/// Takes this rank's part out of a tensor, or puts it into one of zeros.
class AxisSliceStep final : public StepLaunch {
public:
  AxisSliceStep(const plan::Step &step, const StepContext &context, int64_t ranks, int64_t index)
      : zeros(context.address(step, 1)), zeroBytes(step.axis_slice().pad() ? step.operands(1).slice().bytes() : 0) {
    const plan::Parts &parts = step.axis_slice().parts();
    const int64_t row = parts.inner() * static_cast<int64_t>(elementBytes(step.operands(0).dtype()));
    move = {.from = context.address(step, 0), .to = zeros, .bytes = row, .outer = parts.outer(), .inner = 1};
    if (step.axis_slice().pad()) {
      move.to = zeros + index * row;
      move.fromOuter = 1;
      move.toOuter = ranks;
    } else {
      move.from = context.address(step, 0) + index * row;
      move.fromOuter = ranks;
      move.toOuter = 1;
    }
  }

  Status enqueue(cudaStream_t stream) override {
    if (zeroBytes > 0)
      if (Status status = check(cudaMemsetAsync(zeros, 0, zeroBytes, stream), "enqueue a fill"); !status)
        return status;
    return moved(move, stream);
  }

private:
  std::byte *zeros;
  size_t zeroBytes; ///< 0 if the part is taken out
  RowMove move;
};

class AsPartialStep final : public StepLaunch {
public:
  AsPartialStep(const plan::Step &step, const StepContext &context, bool keeps)
      : source(context.address(step, 0)), destination(context.address(step, step.as_partial().in_place() ? 0 : 1)),
        bytes(step.operands(0).slice().bytes()), keeps(keeps) {}

  Status enqueue(cudaStream_t stream) override {
    if (!keeps)
      return check(cudaMemsetAsync(destination, 0, bytes, stream), "enqueue a fill");
    return source == destination
               ? Status()
               : check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToDevice, stream), "enqueue a copy");
  }

private:
  const std::byte *source;
  std::byte *destination;
  size_t bytes;
  bool keeps;
};

} // namespace

Expected<std::unique_ptr<StepLaunch>> createCommStep(const plan::Step &step, const StepContext &context) {
  if (step.has_collective()) {
    const AxisList &axes = step.collective().axes();
    DeviceGroup *group = context.ranks ? context.ranks->find(axes) : nullptr;
    if (!group && groupSize(*context.plan, axes) > 1)
      return error("work between ranks needs a communicator", {}, {}, {}, ExitCode::Internal);
    return std::make_unique<CollectiveStep>(step, context, group);
  }
  if (step.has_as_partial())
    return std::make_unique<AsPartialStep>(step, context,
                                           groupIndex(*context.plan, step.as_partial().axes(), context.axisIndex) == 0);
  const AxisList &axes = step.axis_slice().axes();
  return std::make_unique<AxisSliceStep>(step, context, static_cast<int64_t>(groupSize(*context.plan, axes)),
                                         groupIndex(*context.plan, axes, context.axisIndex));
}

} // namespace moe::cuda
