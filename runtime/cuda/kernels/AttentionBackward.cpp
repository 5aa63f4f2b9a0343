//===- AttentionBackward.cpp --------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// With dp[i,j] = drop[i,j] * <dout[i], v[j]> and delta[i] = <dout[i], out[i]> = sum_j p[i,j] * dp[i,j]:
//
//   ds[i,j] = p[i,j] * (dp[i,j] - delta[i])
//   dq[i] = scale * sum_j ds[i,j] * k[j]
//   dk[j] = scale * sum_i ds[i,j] * q[i]
//   dv[j] = sum_i p[i,j] * drop[i,j] * dout[i]
//
// A softcap multiplies ds[i,j] by its slope, 1 - (s[i,j] / softcap)^2.
//
// dq[i] is summed over ascending keys; dk[j] and dv[j] over the query heads of the group, then over ascending queries.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/AttentionBf16.h"
#include "runtime/cuda/kernels/AttentionHead.h"

namespace moe::cuda {
namespace {

using namespace gpu;

struct Arguments {
  AttentionShape shape;
  AttentionBackwardPointers p;
  Dropout dropout;
  float *delta;           ///< [B, H, T]
  uint32_t tiles, chunks; ///< of queries or keys; of `width` columns of the gradients
};

/// A warp for each query: delta.
template <typename T> MOE_KERNEL(kAttentionThreads) void attentionDelta(Arguments a) {
  const AttentionShape &shape = a.shape;
  const int64_t D = shape.headDim, row = int64_t{blockIndex()} * (kAttentionThreads / warpSize) + warpIndex();
  if (row >= shape.batch * shape.queries * shape.heads)
    return; // all lanes of the warp
  const T *dout = static_cast<const T *>(a.p.dout) + row * D, *out = static_cast<const T *>(a.p.out) + row * D;
  float sum = 0.0f;
  for (int64_t d = laneIndex(); d < D; d += warpSize)
    sum = multiplyAdd(toFloat(dout[d]), toFloat(out[d]), sum);
  sum = warpSum(sum);
  // From [B, T, H] to [B, H, T].
  const auto heads = static_cast<uint32_t>(shape.heads), queries = static_cast<uint32_t>(shape.queries);
  const uint32_t position = static_cast<uint32_t>(row) / heads, head = static_cast<uint32_t>(row) % heads;
  if (laneIndex() == 0)
    a.delta[(int64_t{position / queries} * heads + head) * queries + position % queries] = sum;
}

/// `width` columns of dq of 64 queries of a head.
template <typename T, int width, bool capped>
MOE_KERNEL_SHARING(kAttentionThreads, width <= 32 && !capped ? 2 : 1)
void attentionDq(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<TileShared<width>>();
  const auto firstColumn = static_cast<int>(blockIndex() % a.chunks) * width;
  const auto [firstQuery, sequence, head] = QueryTile(shape, blockIndex() / a.chunks, a.tiles);
  const AttentionHead<T> of(shape, sequence, head);
  const Rows<T> queries = of.ofQueries(a.p.q, firstQuery), douts = of.ofQueries(a.p.dout, firstQuery);
  const uint8_t *padding = paddingOf(a.p.padding, shape, sequence);
  const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
  const ScoreScale<capped> scale(shape);
  const Band band(shape);
  const int x = tileX(), y = tileY();

  float lse[kEach], delta[kEach], sums[kEach][Columns<width>::each];
  MOE_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int64_t row = y + kSide * i;
    lse[i] = row < queries.count ? a.p.lse[of.rowAt + firstQuery + row] * kLog2e : 0.0f;
    delta[i] = row < queries.count ? a.delta[of.rowAt + firstQuery + row] : 0.0f;
    MOE_UNROLL
    for (float &sum : sums[i])
      sum = 0.0f;
  }
  const int64_t end = keyEnd(shape, firstQuery + queries.count - 1);
  for (int64_t firstKey = keyBegin(shape, firstQuery); firstKey < end; firstKey += kTile) {
    if (!loadVisible(shared.visible, padding, firstKey, end)) {
      barrier();
      continue;
    }
    float scores[kEach][kEach], dots[kEach][kEach];
    const Rows<T> keys = of.ofKeys(a.p.k, firstKey, shape.keys);
    multiplyTiles(shared, queries, keys, scores);
    multiplyTiles(shared, douts, of.ofKeys(a.p.v, firstKey, shape.keys), dots);
    MOE_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int64_t query = firstQuery + y + kSide * i;
      MOE_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const int column = x + kSide * j;
        Weight weight{};
        if (isVisible(shared.visible, column) && band.sees(query, firstKey + column))
          weight = weigh(scale, scores[i][j], dots[i][j], lse[i], delta[i], dropout.factor(query, firstKey + column));
        shared.weights[y + kSide * i][column] = weight.gradient;
      }
    }
    addWeighted(shared, keys, firstColumn, sums);
  }
  MOE_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int64_t row = y + kSide * i;
    MOE_UNROLL
    for (int n = 0; n < Columns<width>::each; ++n) {
      const int64_t column = firstColumn + Columns<width>::of(n);
      if (row < queries.count && column < shape.headDim)
        fromFloat(sums[i][n] * shape.scale, static_cast<T *>(a.p.dq)[of.at + (firstQuery + row) * of.stride + column]);
    }
  }
}

/// `width` columns of dk and dv of 64 keys of a key-value head. Rows of the tile are keys, columns queries.
template <typename T, int width, bool capped> MOE_KERNEL(kAttentionThreads) void attentionDkDv(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<TileShared<width>>();
  const auto firstColumn = static_cast<int>(blockIndex() % a.chunks) * width;
  const int64_t firstKey = blockIndex() / a.chunks % a.tiles * kTile;
  const auto sequenceHead = blockIndex() / a.chunks / a.tiles, kvHeads = static_cast<uint32_t>(shape.kvHeads);
  const int64_t kvHead = sequenceHead % kvHeads, sequence = sequenceHead / kvHeads;
  const int64_t group = static_cast<uint32_t>(shape.heads) / kvHeads;
  const uint8_t *padding = paddingOf(a.p.padding, shape, sequence);
  const ScoreScale<capped> scale(shape);
  const Band band(shape);
  const int x = tileX(), y = tileY();

  float dkeys[kEach][Columns<width>::each], dvalues[kEach][Columns<width>::each];
  MOE_UNROLL
  for (int i = 0; i < kEach; ++i)
    MOE_UNROLL
  for (int n = 0; n < Columns<width>::each; ++n)
    dkeys[i][n] = dvalues[i][n] = 0.0f;

  const QueryRange range(shape, firstKey);
  const bool any = loadVisible(shared.visible, padding, firstKey, shape.keys);
  for (int64_t head = kvHead * group; any && head < (kvHead + 1) * group; ++head) {
    const AttentionHead<T> of(shape, sequence, head);
    const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
    for (int64_t firstQuery = range.begin / kTile * kTile; firstQuery < range.end; firstQuery += kTile) {
      const Rows<T> queries = of.ofQueries(a.p.q, firstQuery), douts = of.ofQueries(a.p.dout, firstQuery);
      float scores[kEach][kEach], dots[kEach][kEach];
      multiplyTiles(shared, of.ofKeys(a.p.k, firstKey, shape.keys), queries, scores);
      multiplyTiles(shared, of.ofKeys(a.p.v, firstKey, shape.keys), douts, dots);
      MOE_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const int64_t row = x + kSide * j, query = firstQuery + row;
        const float lse = row < queries.count ? a.p.lse[of.rowAt + query] * kLog2e : 0.0f;
        const float delta = row < queries.count ? a.delta[of.rowAt + query] : 0.0f;
        MOE_UNROLL
        for (int i = 0; i < kEach; ++i) {
          const int key = y + kSide * i;
          Weight weight{};
          if (row < queries.count && isVisible(shared.visible, key) && band.sees(query, firstKey + key))
            weight = weigh(scale, scores[i][j], dots[i][j], lse, delta, dropout.factor(query, firstKey + key));
          shared.weights[key][x + kSide * j] = weight.dropped;
          scores[i][j] = weight.gradient;
        }
      }
      addWeighted(shared, douts, firstColumn, dvalues);
      MOE_UNROLL
      for (int i = 0; i < kEach; ++i)
        MOE_UNROLL
      for (int j = 0; j < kEach; ++j)
        shared.weights[y + kSide * i][x + kSide * j] = scores[i][j];
      addWeighted(shared, queries, firstColumn, dkeys);
    }
  }
  MOE_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int64_t key = firstKey + y + kSide * i;
    MOE_UNROLL
    for (int n = 0; n < Columns<width>::each; ++n) {
      const int64_t column = firstColumn + Columns<width>::of(n);
      const int64_t at = ((sequence * shape.keys + key) * shape.kvHeads + kvHead) * shape.headDim + column;
      if (key < shape.keys && column < shape.headDim) {
        fromFloat(dkeys[i][n] * shape.scale, static_cast<T *>(a.p.dk)[at]);
        fromFloat(dvalues[i][n], static_cast<T *>(a.p.dv)[at]);
      }
    }
  }
}

template <typename T> cudaError_t runDelta(const Arguments &arguments, cudaStream_t stream) {
  const int64_t rows = arguments.shape.batch * arguments.shape.heads * arguments.shape.queries;
  if (rows > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  return launch<attentionDelta<T>>(
      {.blocks = blocksFor(rows, kAttentionThreads / warpSize), .threads = kAttentionThreads}, stream, arguments);
}

template <typename T, int width, bool capped> cudaError_t run(Arguments arguments, cudaStream_t stream) {
  const AttentionShape &shape = arguments.shape;
  const int64_t chunks = divideUp(shape.headDim, int64_t{width});
  const int64_t queryTiles = divideUp(shape.queries, kTile), keyTiles = divideUp(shape.keys, kTile);
  const int64_t dqBlocks = shape.batch * shape.heads * queryTiles * chunks;
  const int64_t dkDvBlocks = shape.batch * shape.kvHeads * keyTiles * chunks;
  if (dqBlocks > 0x7FFFFFFF || dkDvBlocks > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  Launch how{.blocks = static_cast<uint32_t>(dqBlocks),
             .threads = kAttentionThreads,
             .sharedBytes = sizeof(TileShared<width>)};
  arguments.chunks = static_cast<uint32_t>(chunks);
  arguments.tiles = static_cast<uint32_t>(queryTiles);
  const cudaError_t error = launch<attentionDq<T, width, capped>>(how, stream, arguments);
  if (error != cudaSuccess)
    return error;
  arguments.tiles = static_cast<uint32_t>(keyTiles);
  how.blocks = static_cast<uint32_t>(dkDvBlocks);
  return launch<attentionDkDv<T, width, capped>>(how, stream, arguments);
}

template <typename T> cudaError_t runGradients(const Arguments &arguments, cudaStream_t stream) {
  return specialised(arguments.shape,
                     [&](auto width, auto capped) { return run<T, width(), capped()>(arguments, stream); });
}

} // namespace

cudaError_t attentionBackward(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                              cudaStream_t stream) {
  const Arguments arguments{.shape = shape,
                            .p = pointers,
                            .dropout = dropoutOf(shape),
                            .delta = static_cast<float *>(pointers.scratch),
                            .tiles = 0,
                            .chunks = 0};
  const bool bf16 = shape.element == Element::Bf16;
  const cudaError_t error = bf16 ? runDelta<Bf16>(arguments, stream) : runDelta<float>(arguments, stream);
  if (error != cudaSuccess)
    return error;
  if (fitsTensorCores(shape, pointers.dout, pointers.q, pointers.k, pointers.v, pointers.dq, pointers.dk, pointers.dv))
    return attentionBackwardBf16(shape, pointers, stream);
  return bf16 ? runGradients<Bf16>(arguments, stream) : runGradients<float>(arguments, stream);
}

} // namespace moe::cuda
