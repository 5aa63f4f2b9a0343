//===- Attention.h - Attention without a matrix of all scores -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The formulas, conventions and random numbers of runtime/cpu/kernels/Attention.h: the same weights are dropped. Scores
// exist in tiles of 64 x 64 in shared memory (Dao et al., "FlashAttention", 2022). The backward pass goes over them
// twice, by rows for dq and by columns for dk and dv, so that every element is summed by one thread in a fixed order.
//
// bfloat16 tensors aligned to 16 bytes whose head dimension is a multiple of 8, at most 128, are multiplied by tensor
// cores: weights and gradients of scores are then rounded to bfloat16 before they multiply.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ATTENTION_H
#define MOEC_RUNTIME_CUDA_KERNELS_ATTENTION_H

#include "runtime/cuda/kernels/Element.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

/// Sizes and constants; the fields of message `Attention` in runtime/plan/plan.proto.
struct AttentionShape {
  int64_t batch = 0;   ///< B
  int64_t heads = 0;   ///< H, a multiple of kvHeads
  int64_t kvHeads = 0; ///< Hkv
  int64_t queries = 0; ///< T
  int64_t keys = 0;    ///< S
  int64_t headDim = 0; ///< D, any; best are multiples of 32 up to 128
  float scale = 1.0f;
  bool causal = false;
  float dropout = 0.0f; ///< probability of dropping a softmax weight, in [0, 1)
  uint64_t seed = 0;
  uint64_t site = 0;
  Element element = Element::Float32; ///< of q, k, v, out and their gradients
};

/// Device pointers, aligned to their elements; tensors are row-major and contiguous.
struct AttentionForwardPointers {
  const void *q = nullptr;          ///< [B, T, H, D]
  const void *k = nullptr;          ///< [B, S, Hkv, D]
  const void *v = nullptr;          ///< [B, S, Hkv, D]
  const uint8_t *padding = nullptr; ///< [B, S], not zero: the key is hidden; null: none is
  const int64_t *rng = nullptr;     ///< [2]: num_updates, micro-batch; read if dropout > 0
  void *out = nullptr;              ///< [B, T, H, D]
  float *lse = nullptr;             ///< [B, H, T]
};

struct AttentionBackwardPointers {
  const void *dout = nullptr;       ///< [B, T, H, D]
  const void *q = nullptr;          ///< [B, T, H, D]
  const void *k = nullptr;          ///< [B, S, Hkv, D]
  const void *v = nullptr;          ///< [B, S, Hkv, D]
  const void *out = nullptr;        ///< [B, T, H, D], of the forward
  const float *lse = nullptr;       ///< [B, H, T], of the forward
  const uint8_t *padding = nullptr; ///< [B, S], as in the forward
  const int64_t *rng = nullptr;     ///< [2], as in the forward
  void *dq = nullptr;               ///< [B, T, H, D], overwritten
  void *dk = nullptr;               ///< [B, S, Hkv, D], overwritten
  void *dv = nullptr;               ///< [B, S, Hkv, D], overwritten
  void *scratch = nullptr;          ///< attentionScratchBytes of runtime/cuda/Scratch.h, aligned to 4 bytes
};

/// One launch, and three. cudaErrorInvalidValue: 2^31 blocks or more.
cudaError_t attentionForward(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                             cudaStream_t stream);
cudaError_t attentionBackward(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                              cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ATTENTION_H
