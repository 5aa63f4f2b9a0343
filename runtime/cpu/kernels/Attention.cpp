//===- Attention.cpp - Scratch, items and the choice of the instruction set ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/Attention.h"

#include "runtime/cpu/kernels/AttentionKernels.h"
#include "runtime/cpu/kernels/Philox.h"

#include <cmath>

namespace moe::cpu {
namespace {

#if defined(__x86_64__)
constexpr AttentionForwardFn forwardOf[] = {attentionForwardBaseline, attentionForwardV3, attentionForwardV4};
constexpr AttentionBackwardFn backwardOf[] = {attentionBackwardBaseline, attentionBackwardV3, attentionBackwardV4};
#else
constexpr AttentionForwardFn forwardOf[] = {attentionForwardBaseline};
constexpr AttentionBackwardFn backwardOf[] = {attentionBackwardBaseline};
#endif

/// The sum of the pieces that ForwardScratch and BackwardScratch take, each rounded up to 64 bytes.
int64_t floatsPerThread(const AttentionShape &shape, bool backward) {
  const int64_t D = shape.headDim, tile = keyBlock * queryBlock;
  const int64_t widened = shape.bf16 ? 2 * keyBlock * D : 0;
  if (!backward)
    return 2 * D * queryBlock + tile + 3 * queryBlock + widened;
  return 3 * D * queryBlock + 2 * queryBlock * paddedDim(D) + 2 * tile + 3 * queryBlock +
         2 * shape.keys * paddedDim(D) + widened + (shape.softcap > 0.0f ? tile : 0);
}

AttentionDropout dropoutOf(const AttentionShape &shape, const int64_t *rng) {
  if (shape.dropout <= 0.0f)
    return {};
  auto key = philox::siteKey(shape.seed, shape.site);
  return {.key = {key[0], key[1]},
          .update = static_cast<uint64_t>(rng[0]),
          .microBatch = static_cast<uint64_t>(rng[1]),
          // n * 2^-24 < p  iff  n < ceil(p * 2^24), and the product is exact.
          .threshold = static_cast<int32_t>(std::ceil(shape.dropout * 0x1p24f)),
          .keep = 1.0f / (1.0f - shape.dropout)};
}

} // namespace

uint64_t attentionScratchBytes(const AttentionShape &shape, int threads, bool backward) {
  return sizeof(float) * static_cast<uint64_t>(floatsPerThread(shape, backward)) * static_cast<uint64_t>(threads);
}

int64_t attentionItems(const AttentionShape &shape, bool backward) {
  if (backward)
    return shape.batch * shape.kvHeads;
  return shape.batch * shape.heads * ((shape.queries + queryBlock - 1) / queryBlock);
}

void attentionForward(const AttentionShape &shape, const AttentionForwardPointers &pointers, int64_t begin, int64_t end,
                      int thread) {
  float *scratch = static_cast<float *>(pointers.scratch) + thread * floatsPerThread(shape, false);
  forwardOf[static_cast<int>(shape.isa)](shape, pointers, dropoutOf(shape, pointers.rng), begin, end, scratch);
}

void attentionBackward(const AttentionShape &shape, const AttentionBackwardPointers &pointers, int64_t begin,
                       int64_t end, int thread) {
  float *scratch = static_cast<float *>(pointers.scratch) + thread * floatsPerThread(shape, true);
  backwardOf[static_cast<int>(shape.isa)](shape, pointers, dropoutOf(shape, pointers.rng), begin, end, scratch);
}

} // namespace moe::cpu
