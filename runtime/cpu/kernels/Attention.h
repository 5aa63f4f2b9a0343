//===- Attention.h - Flash attention, forward and backward --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Scaled dot-product attention whose memory is linear in the sequence length (the online softmax of Dao et al.,
// "FlashAttention", 2022; the backward recomputes the weights from the stored log-sum-exp), on tensors of float32 or
// bfloat16. It computes in float32: in bfloat16 the results are those of the same numbers in float32, rounded.
//
//   s[i,j]  = scale * <q[i], k[j]>             for visible keys j: not padding, j <= i + S - T if causal, and
//                                              j > i + S - T - window if there is one
//             softcap * tanh(that / softcap)   if there is a softcap
//   lse[i]  = ln sum_j exp(s[i,j])             -inf for a query that sees no key; its output and gradients are zero
//             ln (exp(sink) + that)            with a sink for the head
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

#include "runtime/cpu/kernels/AttentionOperands.h"
#include "runtime/cpu/kernels/Isa.h"

#include <cstdint>

namespace moe::cpu {

struct AttentionShape : AttentionSizes {
  Isa isa = hostIsa(); ///< may not exceed hostIsa()
  bool bf16 = false;   ///< q, k, v, out and their gradients are bfloat16, else float32
};

/// `scratch` has attentionScratchBytes and is aligned to 64 bytes, the others to their elements.
using AttentionForwardPointers = AttentionForwardOperands;
using AttentionBackwardPointers = AttentionBackwardOperands;

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
