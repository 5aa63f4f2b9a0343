//===- AttentionKernels.h - The attention kernels of each instruction set -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Internal to this folder. AttentionForward.cpp and AttentionBackward.cpp are compiled once per ISA, each time with
// another MOE_ISA_SUFFIX.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ATTENTIONKERNELS_H
#define MOEC_RUNTIME_CPU_KERNELS_ATTENTIONKERNELS_H

#include "runtime/cpu/kernels/Attention.h"

#define MOE_ISA_PASTE(name, suffix) name##suffix
#define MOE_ISA_NAME(name, suffix) MOE_ISA_PASTE(name, suffix)

namespace moe::cpu {

/// Queries per tile; a multiple of the lanes of every ISA.
constexpr int64_t queryBlock = 64;
/// Keys per tile.
constexpr int64_t keyBlock = 64;

/// Head dimension rounded up to whole vectors of every ISA.
constexpr int64_t paddedDim(int64_t headDim) {
  return (headDim + 15) / 16 * 16;
}

/// Dropout of one call: what the kernels would otherwise compute with code of external linkage.
struct AttentionDropout {
  uint32_t key[2];
  uint64_t update;
  uint64_t microBatch;
  int32_t threshold;
  float keep;
};

using AttentionForwardFn = void (*)(const AttentionShape &, const AttentionForwardPointers &, const AttentionDropout &,
                                    int64_t begin, int64_t end, float *scratch);
using AttentionBackwardFn = void (*)(const AttentionShape &, const AttentionBackwardPointers &,
                                     const AttentionDropout &, int64_t begin, int64_t end, float *scratch);

#define MOE_DECLARE_ATTENTION(suffix)                                                                                  \
  void attentionForward##suffix(const AttentionShape &, const AttentionForwardPointers &, const AttentionDropout &,    \
                                int64_t begin, int64_t end, float *scratch);                                           \
  void attentionBackward##suffix(const AttentionShape &, const AttentionBackwardPointers &, const AttentionDropout &,  \
                                 int64_t begin, int64_t end, float *scratch);
MOE_DECLARE_ATTENTION(Baseline)
MOE_DECLARE_ATTENTION(V3)
MOE_DECLARE_ATTENTION(V4)
#undef MOE_DECLARE_ATTENTION

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ATTENTIONKERNELS_H
