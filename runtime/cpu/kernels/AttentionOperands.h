//===- AttentionOperands.h - What attention works on, on any device ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ATTENTIONOPERANDS_H
#define MOEC_RUNTIME_CPU_KERNELS_ATTENTIONOPERANDS_H

#include <cstdint>

namespace moe::cpu {

/// The fields of message `Attention` in runtime/plan/plan.proto.
struct AttentionSizes {
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
  float softcap = 0.0f; ///< 0: none
  int64_t window = 0;   ///< keys that a query sees at most; 0: all
};

/// Tensors of the type that the device's shape names where they are void, row-major and contiguous; results must not
/// overlap anything.
struct AttentionForwardOperands {
  const void *q = nullptr;          ///< [B, T, H, D]
  const void *k = nullptr;          ///< [B, S, Hkv, D]
  const void *v = nullptr;          ///< [B, S, Hkv, D]
  const uint8_t *padding = nullptr; ///< [B, S], not zero: the key is hidden; null: none is
  const int64_t *rng = nullptr;     ///< [2]: num_updates, micro-batch; read if dropout > 0
  const void *sinks = nullptr;      ///< [H], one more logit for each head; null: none
  void *out = nullptr;              ///< [B, T, H, D]
  float *lse = nullptr;             ///< [B, H, T]
  void *scratch = nullptr;          ///< as much as the device says
};

struct AttentionBackwardOperands {
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
  void *scratch = nullptr;          ///< as much as the device says
};

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ATTENTIONOPERANDS_H
