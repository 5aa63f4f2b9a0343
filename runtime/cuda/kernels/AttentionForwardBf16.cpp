//===- AttentionForwardBf16.cpp - The forward pass on tensor cores ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/AttentionBf16.h"

namespace moe::cuda {
namespace {

using namespace gpu;

struct Arguments {
  AttentionShape shape;
  AttentionForwardPointers p;
  Dropout dropout;
  uint32_t tiles; ///< of queries
};

template <int dim> struct Shared {
  Bf16Tile<kTile, dim> keys, values;
  VisibleKeys visible;
};

/// A block has 64 queries of a head.
template <int dim> MOE_KERNEL(kBf16Threads) void attentionBf16(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<Shared<dim>>();
  // Late queries see most keys if causal: they go first.
  const int64_t firstQuery = (a.tiles - 1 - blockIndex() % a.tiles) * kTile;
  const auto sequenceHead = blockIndex() / a.tiles, heads = static_cast<uint32_t>(shape.heads);
  const int64_t head = sequenceHead % heads, sequence = sequenceHead / heads;
  const int64_t kvHead = static_cast<uint32_t>(head) / static_cast<uint32_t>(shape.heads / shape.kvHeads);
  const int64_t T = shape.queries, S = shape.keys, D = shape.headDim;
  const int64_t stride = shape.heads * D, kvStride = shape.kvHeads * D;
  const int64_t at = (sequence * T + firstQuery) * stride + head * D, kvAt = sequence * S * kvStride + kvHead * D;
  const auto count = static_cast<int>(smaller(kTile, T - firstQuery));
  const uint8_t *padding = a.p.padding ? a.p.padding + sequence * S : nullptr;
  const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
  const float scale = shape.scale * kLog2e;
  const int warpRow = static_cast<int>(warpIndex()) * kWarpRows;

  loadTile(shared.keys, Rows<Bf16>(a.p.q, at, stride, count, D));
  barrier();
  WarpRows<dim> queries;
  queries.load(shared.keys); // before the barrier of `loadVisible`: the tile is then overwritten

  float largest[2] = {kHidden, kHidden}, total[2] = {0.0f, 0.0f};
  Accumulator sums[dim / 8];
  MOE_UNROLL
  for (auto &sum : sums)
    sum = {};
  const int64_t end = keyEnd(shape, firstQuery + count - 1);
  for (int64_t firstKey = 0; firstKey < end; firstKey += kTile) {
    if (!loadVisible(shared.visible, padding, firstKey, end)) {
      barrier();
      continue;
    }
    const int64_t keyAt = kvAt + firstKey * kvStride;
    loadTile(shared.keys, Rows<Bf16>(a.p.k, keyAt, kvStride, end - firstKey, D));
    loadTile(shared.values, Rows<Bf16>(a.p.v, keyAt, kvStride, end - firstKey, D));
    barrier();
    Accumulator scores[kTile / 8];
    multiply(queries, shared.keys, scores);
    MOE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int64_t query = firstQuery + warpRow + accumulatorRow(2 * i), rowEnd = keyEnd(shape, query);
      float now = largest[i];
      MOE_UNROLL
      for (int n = 0; n < kTile / 8; ++n)
        MOE_UNROLL
      for (int c = 2 * i; c < 2 * i + 2; ++c) {
        const int column = n * 8 + accumulatorColumn(c);
        const bool seen = isVisible(shared.visible, column) && firstKey + column < rowEnd;
        scores[n].at[c] = seen ? scores[n].at[c] * scale : kHidden;
        now = larger(now, scores[n].at[c]);
      }
      now = quadLargest(now);
      float sum = 0.0f;
      MOE_UNROLL
      for (int n = 0; n < kTile / 8; ++n)
        MOE_UNROLL
      for (int c = 2 * i; c < 2 * i + 2; ++c) {
        // Hidden scores are the only ones that weigh nothing when a row has seen no other.
        const float weight = scores[n].at[c] == kHidden ? 0.0f : std::exp2(scores[n].at[c] - now);
        sum += weight;
        scores[n].at[c] = weight * dropout.factor(query, firstKey + n * 8 + accumulatorColumn(c));
      }
      const float rescale = std::exp2(largest[i] - now);
      largest[i] = now;
      total[i] = gpu::multiplyAdd(total[i], rescale, quadSum(sum));
      MOE_UNROLL
      for (auto &value : sums) {
        value.at[2 * i] *= rescale;
        value.at[2 * i + 1] *= rescale;
      }
    }
    addWeighted(scores, shared.values, sums);
    barrier();
  }

  float factor[2];
  MOE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int row = warpRow + accumulatorRow(2 * i);
    const bool empty = total[i] == 0.0f; // sees no key: the largest of those it sees weighs 1
    factor[i] = empty ? 0.0f : 1.0f / total[i];
    if (row < count && accumulatorColumn(0) == 0)
      a.p.lse[(sequence * shape.heads + head) * T + firstQuery + row] =
          empty ? -INFINITY : float((double(largest[i]) + double(std::log2(total[i]))) * kLn2);
  }
  storeRows<dim>(sums, factor, static_cast<Bf16 *>(a.p.out) + at, stride, count, static_cast<int>(D));
}

template <int dim>
cudaError_t run(const AttentionShape &shape, const AttentionForwardPointers &p, cudaStream_t stream) {
  const int64_t tiles = divideUp(shape.queries, kTile), blocks = shape.batch * shape.heads * tiles;
  if (blocks > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  return launch<attentionBf16<dim>>(
      {.blocks = static_cast<uint32_t>(blocks), .threads = kBf16Threads, .sharedBytes = sizeof(Shared<dim>)}, stream,
      Arguments{shape, p, dropoutOf(shape), static_cast<uint32_t>(tiles)});
}

} // namespace

cudaError_t attentionForwardBf16(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                                 cudaStream_t stream) {
  if (shape.headDim <= 32)
    return run<32>(shape, pointers, stream);
  return shape.headDim <= 64 ? run<64>(shape, pointers, stream) : run<128>(shape, pointers, stream);
}

} // namespace moe::cuda
