//===- AttentionBackwardBf16.cpp - The backward pass on tensor cores ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The formulas of AttentionBackward.cpp. Columns are taken 16 or 32 at a time: more would not fit into the registers
// beside the sums.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/AttentionBf16.h"
#include "runtime/cuda/kernels/AttentionHead.h"

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr int kColumns = 32;

struct Arguments {
  AttentionShape shape;
  AttentionBackwardPointers p;
  Dropout dropout;
  uint32_t tiles; ///< of queries or keys
};

template <int dim> struct DqShared {
  Bf16Tile<kTile, dim> keys, values;
  VisibleKeys visible;
};

/// dq of 64 queries of a head.
template <int dim, bool capped> MOE_KERNEL_SHARING(kBf16Threads, dim <= 64 ? 3 : 2) void attentionDqBf16(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<DqShared<dim>>();
  const auto [firstQuery, sequence, head] = QueryTile(shape, blockIndex(), a.tiles);
  const AttentionHead<Bf16> of(shape, sequence, head);
  const auto count = static_cast<int>(smaller(kTile, shape.queries - firstQuery));
  const uint8_t *padding = paddingOf(a.p.padding, shape, sequence);
  const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
  const ScoreScale<capped> scale(shape);
  const Band band(shape);
  const int warpRow = static_cast<int>(warpIndex()) * kWarpRows;

  loadTile(shared.keys, of.ofQueries(a.p.q, firstQuery));
  loadTile(shared.values, of.ofQueries(a.p.dout, firstQuery));
  barrier();
  WarpRows<dim> queries, douts;
  queries.load(shared.keys);
  douts.load(shared.values); // before the barrier of `loadVisible`: tiles are then overwritten
  float lse[2], delta[2];
  MOE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int row = warpRow + accumulatorRow(2 * i);
    lse[i] = row < count ? a.p.lse[of.rowAt + firstQuery + row] * kLog2e : 0.0f;
    delta[i] = row < count ? static_cast<const float *>(a.p.scratch)[of.rowAt + firstQuery + row] : 0.0f;
  }
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
    loadTile(shared.keys, of.ofKeys(a.p.k, firstKey, shape.keys));
    loadTile(shared.values, of.ofKeys(a.p.v, firstKey, shape.keys));
    barrier();
    MOE_NO_UNROLL
    for (int first = 0; first < kTile; first += kColumns) {
      Accumulator scores[kColumns / 8], dots[kColumns / 8];
      multiply(queries, shared.keys.template from<kColumns>(first), scores);
      multiply(douts, shared.values.template from<kColumns>(first), dots);
      MOE_UNROLL
      for (int n = 0; n < kColumns / 8; ++n)
        MOE_UNROLL
      for (int c = 0; c < 4; ++c) {
        const int column = first + n * 8 + accumulatorColumn(c);
        const int64_t query = firstQuery + warpRow + accumulatorRow(c), key = firstKey + column;
        Weight weight{};
        if (isVisible(shared.visible, column) && band.sees(query, key))
          weight = weigh(scale, scores[n].at[c], dots[n].at[c], lse[c / 2], delta[c / 2], dropout.factor(query, key));
        scores[n].at[c] = weight.gradient;
      }
      addWeighted(scores, shared.keys.template from<kColumns>(first), sums);
    }
    barrier();
  }
  storeRows<dim>(sums, {shape.scale, shape.scale}, static_cast<Bf16 *>(a.p.dq) + of.at + firstQuery * of.stride,
                 of.stride, count, static_cast<int>(shape.headDim));
}

template <int dim> struct DkDvShared {
  Bf16Tile<kTile, dim> values;
  Bf16Tile<kColumns, dim> queries, douts;
  float lse[kColumns], delta[kColumns]; ///< lse in bits
  VisibleKeys visible;
};

/// dk and dv of 64 keys of a key-value head. Rows are keys, columns queries.
template <int dim, bool capped> MOE_KERNEL_SHARING(kBf16Threads, capped ? 2 : 0) void attentionDkDvBf16(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<DkDvShared<dim>>();
  const int64_t firstKey = blockIndex() % a.tiles * kTile;
  const auto sequenceHead = blockIndex() / a.tiles, kvHeads = static_cast<uint32_t>(shape.kvHeads);
  const int64_t kvHead = sequenceHead % kvHeads, sequence = sequenceHead / kvHeads;
  const int64_t group = static_cast<uint32_t>(shape.heads) / kvHeads;
  const uint8_t *padding = paddingOf(a.p.padding, shape, sequence);
  const ScoreScale<capped> scale(shape);
  const Band band(shape);
  const int warpRow = static_cast<int>(warpIndex()) * kWarpRows, thread = static_cast<int>(threadIndex());
  const AttentionHead<Bf16> any(shape, sequence, kvHead * group);
  constexpr int step = dim > 64 ? kColumns / 2 : kColumns; // the sums of 128 leave no registers for more

  WarpRows<dim> keys;
  loadTile(shared.values, any.ofKeys(a.p.k, firstKey, shape.keys));
  barrier();
  keys.load(shared.values);
  barrier();
  loadTile(shared.values, any.ofKeys(a.p.v, firstKey, shape.keys));
  const bool anyVisible = loadVisible(shared.visible, padding, firstKey, shape.keys);

  Accumulator dkeys[dim / 8], dvalues[dim / 8];
  MOE_UNROLL
  for (int n = 0; n < dim / 8; ++n)
    dkeys[n] = dvalues[n] = {};
  const QueryRange range(shape, firstKey);
  for (int64_t head = kvHead * group; anyVisible && head < (kvHead + 1) * group; ++head) {
    const AttentionHead<Bf16> of(shape, sequence, head);
    const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
    for (int64_t firstQuery = range.begin / kColumns * kColumns; firstQuery < range.end; firstQuery += kColumns) {
      loadTile(shared.queries, of.ofQueries(a.p.q, firstQuery));
      loadTile(shared.douts, of.ofQueries(a.p.dout, firstQuery));
      if (thread < kColumns) {
        const bool exists = firstQuery + thread < shape.queries;
        const int64_t row = of.rowAt + firstQuery + thread;
        shared.lse[thread] = exists ? a.p.lse[row] * kLog2e : 0.0f;
        shared.delta[thread] = exists ? static_cast<const float *>(a.p.scratch)[row] : 0.0f;
      }
      barrier();
      MOE_NO_UNROLL
      for (int start = 0; start < kColumns; start += step) {
        const auto &q = shared.queries.template from<step>(start), &dout = shared.douts.template from<step>(start);
        Accumulator scores[step / 8], dots[step / 8];
        multiply(keys, q, scores);
        multiply(shared.values, dout, dots);
        MOE_UNROLL
        for (int n = 0; n < step / 8; ++n)
          MOE_UNROLL
        for (int c = 0; c < 4; ++c) {
          const int column = start + n * 8 + accumulatorColumn(c), row = warpRow + accumulatorRow(c);
          const int64_t query = firstQuery + column, key = firstKey + row;
          Weight weight{};
          // Queries that do not exist are zeros, and so is what they add.
          if (isVisible(shared.visible, row) && band.sees(query, key))
            weight = weigh(scale, scores[n].at[c], dots[n].at[c], shared.lse[column], shared.delta[column],
                           dropout.factor(query, key));
          scores[n].at[c] = weight.dropped;
          dots[n].at[c] = weight.gradient;
        }
        addWeighted(scores, dout, dvalues);
        addWeighted(dots, q, dkeys);
      }
      barrier();
    }
  }
  const int64_t at = any.kvAt + firstKey * any.kvStride;
  const auto count = static_cast<int>(smaller(kTile, shape.keys - firstKey)), depth = static_cast<int>(shape.headDim);
  storeRows<dim>(dkeys, {shape.scale, shape.scale}, static_cast<Bf16 *>(a.p.dk) + at, any.kvStride, count, depth);
  storeRows<dim>(dvalues, {1.0f, 1.0f}, static_cast<Bf16 *>(a.p.dv) + at, any.kvStride, count, depth);
}

template <int dim, bool capped> cudaError_t run(Arguments arguments, cudaStream_t stream) {
  const AttentionShape &shape = arguments.shape;
  const int64_t queryTiles = divideUp(shape.queries, kTile), keyTiles = divideUp(shape.keys, kTile);
  const int64_t dqBlocks = shape.batch * shape.heads * queryTiles;
  const int64_t dkDvBlocks = shape.batch * shape.kvHeads * keyTiles;
  if (dqBlocks > 0x7FFFFFFF || dkDvBlocks > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  arguments.tiles = static_cast<uint32_t>(queryTiles);
  const cudaError_t error = launch<attentionDqBf16<dim, capped>>(
      {.blocks = static_cast<uint32_t>(dqBlocks), .threads = kBf16Threads, .sharedBytes = sizeof(DqShared<dim>)},
      stream, arguments);
  if (error != cudaSuccess)
    return error;
  arguments.tiles = static_cast<uint32_t>(keyTiles);
  return launch<attentionDkDvBf16<dim, capped>>(
      {.blocks = static_cast<uint32_t>(dkDvBlocks), .threads = kBf16Threads, .sharedBytes = sizeof(DkDvShared<dim>)},
      stream, arguments);
}

} // namespace

cudaError_t attentionBackwardBf16(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                                  cudaStream_t stream) {
  const Arguments arguments{.shape = shape, .p = pointers, .dropout = dropoutOf(shape), .tiles = 0};
  return specialised(shape, [&](auto dim, auto capped) { return run<dim(), capped()>(arguments, stream); });
}

} // namespace moe::cuda
