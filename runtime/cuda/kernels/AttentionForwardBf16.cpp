//===- AttentionForwardBf16.cpp - The forward pass on tensor cores ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/AttentionBf16.h"
#include "runtime/cuda/kernels/AttentionHead.h"

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
template <int dim, bool capped> MOE_KERNEL_SHARING(kBf16Threads, dim <= 64 ? 3 : 2) void attentionBf16(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<Shared<dim>>();
  const auto [firstQuery, sequence, head] = QueryTile(shape, blockIndex(), a.tiles);
  const AttentionHead<Bf16> of(shape, sequence, head);
  const auto count = static_cast<int>(smaller(kTile, shape.queries - firstQuery));
  const uint8_t *padding = paddingOf(a.p.padding, shape, sequence);
  const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
  const ScoreScale<capped> scale(shape);
  const Band band(shape);
  const Sink<Bf16> sink(a.p.sinks, head);
  const int warpRow = static_cast<int>(warpIndex()) * kWarpRows;

  loadTile(shared.keys, of.ofQueries(a.p.q, firstQuery));
  barrier();
  WarpRows<dim> queries;
  queries.load(shared.keys); // before the barrier of `loadVisible`: the tile is then overwritten

  float largest[2] = {sink.largest, sink.largest}, total[2] = {sink.total, sink.total};
  Accumulator sums[dim / 8];
  MOE_UNROLL
  for (auto &sum : sums)
    sum = {};
  const int64_t end = keyEnd(shape, firstQuery + count - 1);
  for (int64_t firstKey = keyBegin(shape, firstQuery); firstKey < end; firstKey += kTile) {
    if (!loadVisible(shared.visible, padding, firstKey, end)) {
      barrier();
      continue;
    }
    loadTile(shared.keys, of.ofKeys(a.p.k, firstKey, end));
    loadTile(shared.values, of.ofKeys(a.p.v, firstKey, end));
    barrier();
    Accumulator scores[kTile / 8];
    multiply(queries, shared.keys, scores);
    MOE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int64_t query = firstQuery + warpRow + accumulatorRow(2 * i);
      float now = largest[i];
      MOE_UNROLL
      for (int n = 0; n < kTile / 8; ++n)
        MOE_UNROLL
      for (int c = 2 * i; c < 2 * i + 2; ++c) {
        const int column = n * 8 + accumulatorColumn(c);
        const bool seen = isVisible(shared.visible, column) && band.sees(query, firstKey + column);
        scores[n].at[c] = seen ? scale.score(scores[n].at[c]) : kHidden;
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
      a.p.lse[of.rowAt + firstQuery + row] =
          empty ? -INFINITY : float((double(largest[i]) + double(std::log2(total[i]))) * kLn2);
  }
  storeRows<dim>(sums, factor, static_cast<Bf16 *>(a.p.out) + of.at + firstQuery * of.stride, of.stride, count,
                 static_cast<int>(shape.headDim));
}

template <int dim, bool capped>
cudaError_t run(const AttentionShape &shape, const AttentionForwardPointers &p, cudaStream_t stream) {
  const int64_t tiles = divideUp(shape.queries, kTile), blocks = shape.batch * shape.heads * tiles;
  if (blocks > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  return launch<attentionBf16<dim, capped>>(
      {.blocks = static_cast<uint32_t>(blocks), .threads = kBf16Threads, .sharedBytes = sizeof(Shared<dim>)}, stream,
      Arguments{shape, p, dropoutOf(shape), static_cast<uint32_t>(tiles)});
}

} // namespace

cudaError_t attentionForwardBf16(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                                 cudaStream_t stream) {
  return specialised(shape, [&](auto dim, auto capped) { return run<dim(), capped()>(shape, pointers, stream); });
}

} // namespace moe::cuda
