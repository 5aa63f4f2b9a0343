//===- Attention.h - Flash attention, forward and backward --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Scaled dot-product attention in float32 whose memory is linear in the sequence length (the online softmax of Dao et
// al., "FlashAttention", 2022; the backward recomputes the weights from the stored log-sum-exp):
//
//   s[i,j]  = scale * <q[i], k[j]>             for visible keys j: not padding, and j <= i + S - T if causal
//   lse[i]  = ln sum_j exp(s[i,j])             -inf for a query that sees no key; its output and gradients are zero
//   p[i,j]  = exp(s[i,j] - lse[i])
//   out[i]  = sum_j p[i,j] * drop[i,j] * v[j]  drop = 0 or 1/(1-dropout), 1 without dropout
//
// Query head h reads key-value head h / (heads / kvHeads). Dropout of weight (b,h,i,j) is decided as Philox.h says for
// element ((b * heads + h) * queries + i) * keys + j of the micro-batch.
//
// Hidden keys and values must be finite: they are multiplied by zero. Keys that are all hidden cost next to nothing,
// and a padding operand that hides nothing changes no bit.
//
// The work is a list of independent items. Any division of [0, items) among threads gives the same bits; bits depend on
// the shape (its ISA included) only. No function allocates or fails; sizes and pointers are the caller's promise.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ATTENTION_H
#define MOEC_RUNTIME_CPU_KERNELS_ATTENTION_H

#include "runtime/cpu/kernels/Isa.h"

#include <cstdint>

namespace moe::cpu {

/// Sizes and constants; the fields of message `Attention` in runtime/plan/plan.proto.
struct AttentionShape {
  int64_t batch = 0;   ///< B
  int64_t heads = 0;   ///< H, a multiple of kvHeads
  int64_t kvHeads = 0; ///< Hkv
  int64_t queries = 0; ///< T
  int64_t keys = 0;    ///< S
  int64_t headDim = 0; ///< D
  float scale = 1.0f;
  bool causal = false;
  float dropout = 0.0f; ///< probability of dropping a softmax weight, in [0, 1)
  uint64_t seed = 0;
  uint64_t site = 0;
  Isa isa = hostIsa(); ///< may not exceed hostIsa()
};

/// Operands, float32 unless said, row-major and contiguous; forward results must not overlap anything. `scratch` is
/// aligned to 64 bytes, the others to 4.
struct AttentionForwardPointers {
  const float *q = nullptr;         ///< [B, T, H, D]
  const float *k = nullptr;         ///< [B, S, Hkv, D]
  const float *v = nullptr;         ///< [B, S, Hkv, D]
  const uint8_t *padding = nullptr; ///< [B, S], not zero: the key is hidden; null: none is
  const int64_t *rng = nullptr;     ///< [2]: num_updates, micro-batch; read if dropout > 0
  float *out = nullptr;             ///< [B, T, H, D]
  float *lse = nullptr;             ///< [B, H, T]
  void *scratch = nullptr;          ///< attentionScratchBytes(shape, threads, false)
};

struct AttentionBackwardPointers {
  const float *dout = nullptr;      ///< [B, T, H, D]
  const float *q = nullptr;         ///< [B, T, H, D]
  const float *k = nullptr;         ///< [B, S, Hkv, D]
  const float *v = nullptr;         ///< [B, S, Hkv, D]
  const float *out = nullptr;       ///< [B, T, H, D], of the forward
  const float *lse = nullptr;       ///< [B, H, T], of the forward
  const uint8_t *padding = nullptr; ///< [B, S], as in the forward
  const int64_t *rng = nullptr;     ///< [2], as in the forward
  float *dq = nullptr;              ///< [B, T, H, D], overwritten
  float *dk = nullptr;              ///< [B, S, Hkv, D], overwritten
  float *dv = nullptr;              ///< [B, S, Hkv, D], overwritten
  void *scratch = nullptr;          ///< attentionScratchBytes(shape, threads, true)
};

/// Bytes of scratch for threads numbered [0, threads): a fixed amount per thread, independent of the ISA.
uint64_t attentionScratchBytes(const AttentionShape &shape, int threads, bool backward);

/// Number of independent work items. Forward: one per (sequence, head, block of queries). Backward: one per (sequence,
/// key-value head), so that every gradient element is summed by one thread in a fixed order.
int64_t attentionItems(const AttentionShape &shape, bool backward);

/// Computes items [begin, end) with the scratch of `thread`.
void attentionForward(const AttentionShape &shape, const AttentionForwardPointers &pointers, int64_t begin, int64_t end,
                      int thread);
void attentionBackward(const AttentionShape &shape, const AttentionBackwardPointers &pointers, int64_t begin,
                       int64_t end, int thread);

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ATTENTION_H
