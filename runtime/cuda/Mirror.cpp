//===- Mirror.cpp - What the host reads after each run, brought along by the run ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Mirror.h"

#include "runtime/cuda/Errors.h"

#include <algorithm>

namespace moe::cuda {

/// One copy for metrics that are this close together: cheaper than two.
static constexpr std::ptrdiff_t kGap = 4096;

Expected<Mirror> Mirror::create(const plan::Plan &plan, std::span<std::byte *const> buffers) {
  Mirror mirror;
  struct Piece {
    uint32_t arena;
    std::byte *begin;
    size_t bytes;
  };
  size_t total = 0;
  for (const plan::Program &program : plan.programs()) {
    std::vector<Piece> pieces;
    for (const plan::Metric &metric : plan.metrics())
      if (metric.program() == program.name())
        pieces.push_back({plan.buffers(static_cast<int>(metric.slice().buffer())).arena(),
                          buffers[metric.slice().buffer()] + metric.slice().offset(), metric.slice().bytes()});
    std::ranges::sort(pieces, {}, [](const Piece &piece) { return std::pair(piece.arena, piece.begin); });
    const Piece *previous = nullptr;
    for (const Piece &piece : pieces) {
      std::byte *end = piece.begin + piece.bytes;
      Range *last = previous && previous->arena == piece.arena ? &mirror.ranges.back() : nullptr;
      previous = &piece;
      if (last && piece.begin - (last->device + last->bytes) <= kGap) {
        last->bytes = std::max(last->bytes, static_cast<size_t>(end - last->device));
        continue;
      }
      mirror.ranges.push_back({program.name(), piece.begin, piece.bytes});
    }
  }
  for (Range &range : mirror.ranges) {
    range.offset = total;
    total += (range.bytes + 63) / 64 * 64;
  }
  auto memory = allocatePinned(total);
  if (!memory)
    return tl::unexpected(std::move(memory.error()));
  mirror.memory = std::move(*memory);
  return mirror;
}

Status Mirror::enqueue(const std::string &program, cudaStream_t stream) const {
  for (const Range &range : ranges)
    if (range.program == program)
      if (Status status = check(
              cudaMemcpyAsync(memory.get() + range.offset, range.device, range.bytes, cudaMemcpyDeviceToHost, stream),
              "read metrics");
          !status)
        return status;
  return {};
}

void Mirror::refreshed(std::span<const int> programs, const plan::Plan &plan) {
  for (Range &range : ranges)
    range.fresh = std::ranges::any_of(programs, [&](int p) { return plan.programs(p).name() == range.program; });
}

void Mirror::forget() {
  for (Range &range : ranges)
    range.fresh = false;
}

const std::byte *Mirror::find(const std::byte *device, size_t bytes) const {
  for (const Range &range : ranges)
    if (range.fresh && device >= range.device && bytes <= range.bytes && device <= range.device + (range.bytes - bytes))
      return memory.get() + range.offset + (device - range.device);
  return nullptr;
}

} // namespace moe::cuda
