//===- Blocks.cpp -------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Blocks.h"

#include "runtime/cuda/kernels/Element.h"
#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr uint32_t kThreads = 256;
/// Enough to fill any device; blocks take every so-many-th piece of the work.
constexpr int64_t kMostBlocks = 2048;
constexpr int64_t kVectorBytes = 16;

struct alignas(16) Words {
  uint32_t word[4];
};

/// So many threads, a power of two, work on one row.
template <typename Word> MOE_KERNEL(kThreads) void moveRowsOf(RowMove move, uint32_t lanes, uint32_t blocks) {
  const int64_t words = move.bytes / static_cast<int64_t>(sizeof(Word));
  const int64_t rowsAtOnce = kThreads / lanes, rows = move.outer * move.inner;
  for (int64_t row = int64_t{blockIndex()} * rowsAtOnce + threadIndex() / lanes; row < rows;
       row += int64_t{blocks} * rowsAtOnce) {
    const int64_t p = row / move.inner, q = row % move.inner;
    const Word *from = static_cast<const Word *>(move.from) + (p * move.fromOuter + q * move.fromInner) * words;
    Word *to = static_cast<Word *>(move.to) + (p * move.toOuter + q * move.toInner) * words;
    for (int64_t at = threadIndex() % lanes; at < words; at += lanes)
      to[at] = from[at];
  }
}

template <typename Word> cudaError_t launchMove(const RowMove &move, cudaStream_t stream) {
  const int64_t words = move.bytes / static_cast<int64_t>(sizeof(Word));
  uint32_t lanes = 1;
  while (lanes < kThreads && static_cast<int64_t>(lanes) < words)
    lanes *= 2;
  const auto blocks = static_cast<uint32_t>(
      smaller<int64_t>(divideUp<int64_t>(move.outer * move.inner, kThreads / lanes), kMostBlocks));
  return launch<moveRowsOf<Word>>({.blocks = blocks, .threads = kThreads}, stream, move, lanes, blocks);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Sums
//===----------------------------------------------------------------------------------------------------------------===//

struct Flag {
  uint8_t value;
};

template <typename T> struct SumOf {
  using Type = float;
};
template <> struct SumOf<int32_t> {
  using Type = uint32_t;
};
template <> struct SumOf<int64_t> {
  using Type = uint64_t;
};
template <> struct SumOf<Flag> {
  using Type = uint8_t;
};

MOE_DEVICE float widened(float value) {
  return value;
}
MOE_DEVICE float widened(Bf16 value) {
  return toFloat(value);
}
MOE_DEVICE uint32_t widened(int32_t value) {
  return static_cast<uint32_t>(value);
}
MOE_DEVICE uint64_t widened(int64_t value) {
  return static_cast<uint64_t>(value);
}
MOE_DEVICE uint8_t widened(Flag value) {
  return value.value;
}

MOE_DEVICE void narrow(float sum, float &to) {
  to = sum;
}
MOE_DEVICE void narrow(float sum, Bf16 &to) {
  fromFloat(sum, to);
}
MOE_DEVICE void narrow(uint32_t sum, int32_t &to) {
  to = static_cast<int32_t>(sum);
}
MOE_DEVICE void narrow(uint64_t sum, int64_t &to) {
  to = static_cast<int64_t>(sum);
}
MOE_DEVICE void narrow(uint8_t sum, Flag &to) {
  to.value = sum;
}

MOE_DEVICE float largest(float a, float b) {
  return a != a || a > b ? a : b;
}
MOE_DEVICE uint32_t largest(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b;
}
MOE_DEVICE uint64_t largest(uint64_t a, uint64_t b) {
  return static_cast<int64_t>(a) > static_cast<int64_t>(b) ? a : b;
}
MOE_DEVICE uint8_t largest(uint8_t a, uint8_t b) {
  return a > b ? a : b;
}

/// As many elements as a thread loads at once.
template <typename T, int width> struct alignas(sizeof(T) * width) Vector {
  T value[width];
};

template <typename T, int width, bool maximum> MOE_KERNEL(kThreads) void sumPartsOf(PartsSum sum, uint32_t blocks) {
  using Loaded = Vector<T, width>;
  using Sum = typename SumOf<T>::Type;
  const auto *parts = static_cast<const Loaded *>(sum.parts);
  auto *target = static_cast<Loaded *>(sum.target);
  const int64_t count = sum.count / width, stride = sum.stride / width;
  for (int64_t at = int64_t{blockIndex()} * kThreads + threadIndex(); at < count; at += int64_t{blocks} * kThreads) {
    Loaded next = parts[at];
    Sum total[width];
    MOE_UNROLL
    for (int i = 0; i < width; ++i)
      total[i] = widened(next.value[i]);
    for (int64_t rank = 1; rank < sum.ranks; ++rank) {
      next = parts[rank * stride + at];
      MOE_UNROLL
      for (int i = 0; i < width; ++i) {
        const Sum summand = widened(next.value[i]);
        total[i] = maximum ? largest(total[i], summand) : static_cast<Sum>(total[i] + summand);
      }
    }
    MOE_UNROLL
    for (int i = 0; i < width; ++i)
      narrow(total[i], next.value[i]);
    target[at] = next;
  }
}

template <typename T, int width> cudaError_t launchSum(const PartsSum &sum, cudaStream_t stream) {
  const uint32_t blocks = smaller(blocksFor(sum.count / width, kThreads), static_cast<uint32_t>(kMostBlocks));
  const Launch how = {.blocks = blocks, .threads = kThreads};
  return sum.maximum ? launch<sumPartsOf<T, width, true>>(how, stream, sum, blocks)
                     : launch<sumPartsOf<T, width, false>>(how, stream, sum, blocks);
}

/// Whole vectors where all parts begin at one; the rest, or all of it, element by element.
template <typename T> cudaError_t launchSums(const PartsSum &sum, cudaStream_t stream) {
  // Sixteen bytes, each widened to a register, would not fit in registers.
  constexpr int width = sizeof(T) == 1 ? 4 : kVectorBytes / sizeof(T);
  const auto places = reinterpret_cast<uintptr_t>(sum.parts) | reinterpret_cast<uintptr_t>(sum.target) |
                      static_cast<uintptr_t>(sum.stride) * sizeof(T);
  PartsSum rest = sum;
  if (places % kVectorBytes == 0) {
    PartsSum whole = sum;
    whole.count = sum.count / width * width;
    if (cudaError_t code = launchSum<T, width>(whole, stream); code != cudaSuccess)
      return code;
    rest.count -= whole.count;
    rest.parts = static_cast<const T *>(sum.parts) + whole.count;
    rest.target = static_cast<T *>(sum.target) + whole.count;
  }
  return launchSum<T, 1>(rest, stream);
}

} // namespace

cudaError_t moveRows(const RowMove &move, cudaStream_t stream) {
  if (move.outer * move.inner * move.bytes == 0)
    return cudaSuccess;
  const auto alignment = reinterpret_cast<uintptr_t>(move.from) | reinterpret_cast<uintptr_t>(move.to) |
                         static_cast<uintptr_t>(move.bytes);
  if (alignment % sizeof(Words) == 0)
    return launchMove<Words>(move, stream);
  return alignment % sizeof(uint32_t) == 0 ? launchMove<uint32_t>(move, stream) : launchMove<uint8_t>(move, stream);
}

cudaError_t sumParts(const PartsSum &sum, cudaStream_t stream) {
  switch (sum.type) {
  case Summand::Float32:
    return launchSums<float>(sum, stream);
  case Summand::Bf16:
    return launchSums<Bf16>(sum, stream);
  case Summand::Int32:
    return launchSums<int32_t>(sum, stream);
  case Summand::Int64:
    return launchSums<int64_t>(sum, stream);
  case Summand::Flag:
    return launchSums<Flag>(sum, stream);
  }
  return cudaErrorInvalidValue;
}

} // namespace moe::cuda
