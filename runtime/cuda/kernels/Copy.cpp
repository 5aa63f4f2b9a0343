//===- Copy.cpp ---------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Copy.h"

#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr uint32_t kThreads = 256;
/// Enough to fill any device; each thread copies every so-many-th word.
constexpr int64_t kMostBlocks = 2048;

struct alignas(16) Words {
  uint32_t word[4];
};

template <typename Word> MOE_KERNEL(kThreads) void copyWords(IndexedCopy copy, uint32_t blocks) {
  const int64_t i = *copy.index;
  const bool isInside = i >= 0 && i < copy.items;
  if (!isInside && copy.outside && blockIndex() == 0 && threadIndex() == 0)
    atomicAdd(copy.outside, 1);
  const int64_t words = copy.bytes / static_cast<int64_t>(sizeof(Word));
  const Word *from = static_cast<const Word *>(copy.from) + (isInside ? i : 0) * words;
  Word *to = static_cast<Word *>(copy.to);
  for (int64_t at = int64_t{blockIndex()} * kThreads + threadIndex(); at < words; at += int64_t{blocks} * kThreads)
    to[at] = isInside ? from[at] : Word{};
}

template <typename Word> cudaError_t launchCopy(const IndexedCopy &copy, cudaStream_t stream) {
  const int64_t words = copy.bytes / static_cast<int64_t>(sizeof(Word));
  const uint32_t blocks = smaller(blocksFor(words, kThreads), static_cast<uint32_t>(kMostBlocks));
  return launch<copyWords<Word>>({.blocks = blocks, .threads = kThreads}, stream, copy, blocks);
}

} // namespace

cudaError_t copyIndexed(const IndexedCopy &copy, cudaStream_t stream) {
  const auto alignment = reinterpret_cast<uintptr_t>(copy.from) | reinterpret_cast<uintptr_t>(copy.to) |
                         static_cast<uintptr_t>(copy.bytes);
  if (alignment % sizeof(Words) == 0)
    return launchCopy<Words>(copy, stream);
  return alignment % sizeof(uint32_t) == 0 ? launchCopy<uint32_t>(copy, stream) : launchCopy<uint8_t>(copy, stream);
}

} // namespace moe::cuda
