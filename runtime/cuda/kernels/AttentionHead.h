//===- AttentionHead.h - What a block works on in the kernels of attention ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONHEAD_H
#define MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONHEAD_H

#include "runtime/cuda/kernels/AttentionTile.h"

namespace moe::cuda {

/// 64 queries of a head, for block `block`. Late queries see most keys if causal: they go first.
struct QueryTile {
  int64_t firstQuery, sequence, head;

  MOE_DEVICE QueryTile(const AttentionShape &shape, uint32_t block, uint32_t tiles)
      : firstQuery(int64_t{tiles - 1 - block % tiles} * kTile),
        sequence(block / tiles / static_cast<uint32_t>(shape.heads)),
        head(block / tiles % static_cast<uint32_t>(shape.heads)) {}
};

/// From the first query that sees a key of the tile at `firstKey` to the last one, one past.
struct QueryRange {
  int64_t begin, end;

  MOE_DEVICE QueryRange(const AttentionShape &shape, int64_t firstKey) : begin(0), end(shape.queries) {
    const int64_t diagonal = firstKey - (shape.keys - shape.queries); // the query that sees the first key last
    if (shape.causal)
      begin = gpu::larger(diagonal, int64_t{0});
    if (shape.window > 0)
      end = gpu::smaller(diagonal + kTile - 1 + shape.window, end);
  }
};

/// The part of `padding` that belongs to a sequence, if there is any.
MOE_DEVICE const uint8_t *paddingOf(const uint8_t *padding, const AttentionShape &shape, int64_t sequence) {
  return padding ? padding + sequence * shape.keys : nullptr;
}

/// Where the tensors of one (sequence, head) begin.
template <typename T> struct AttentionHead {
  const AttentionShape &shape;
  int64_t stride, kvStride; ///< from one position to the next
  int64_t at, kvAt, rowAt;  ///< in tensors like q, k, lse

  MOE_DEVICE AttentionHead(const AttentionShape &shape, int64_t sequence, int64_t head)
      : shape(shape), stride(shape.heads * shape.headDim), kvStride(shape.kvHeads * shape.headDim),
        at(sequence * shape.queries * stride + head * shape.headDim),
        kvAt(sequence * shape.keys * kvStride +
             static_cast<uint32_t>(head) / static_cast<uint32_t>(shape.heads / shape.kvHeads) * shape.headDim),
        rowAt((sequence * shape.heads + head) * shape.queries) {}

  /// Rows of a tensor like q from query `first` on, or of one like k from key `first` to `end`.
  MOE_DEVICE Rows<T> ofQueries(const void *tensor, int64_t first) const {
    return Rows<T>(tensor, at + first * stride, stride, shape.queries - first, shape.headDim);
  }
  MOE_DEVICE Rows<T> ofKeys(const void *tensor, int64_t first, int64_t end) const {
    return Rows<T>(tensor, kvAt + first * kvStride, kvStride, end - first, shape.headDim);
  }
};

/// What one weight contributes: p * drop, and ds.
struct Weight {
  float dropped, gradient;
};

/// `product`: <q, k>; `dot`: <dout, v>; `lse` in bits; `factor`: of dropout.
template <bool capped>
MOE_DEVICE Weight weigh(const ScoreScale<capped> &scale, float product, float dot, float lse, float delta,
                        float factor) {
  const float score = scale.score(product), weight = std::exp2(score - lse);
  return {weight * factor, scale.sloped(weight * (dot * factor - delta), score)};
}

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONHEAD_H
