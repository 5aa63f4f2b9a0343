//===- AttentionBackward.cpp - Compiled once per instruction set --------------------------------------------------===//
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

#include "runtime/cpu/kernels/AttentionBlock.h"

#include <stddef.h>

namespace moe::cpu {
namespace {

/// Working memory of one thread. P = paddedDim(D).
struct BackwardScratch {
  float *queries;   ///< [D][queryBlock], times scoreFactor
  float *douts;     ///< [D][queryBlock]
  float *dqueries;  ///< [D][queryBlock], without the factor scale
  float *queryRows; ///< [queryBlock][P], times scale
  float *doutRows;  ///< [queryBlock][P]
  float *weights;   ///< [keyBlock][queryBlock], scores, then p * drop
  float *gradients; ///< [keyBlock][queryBlock], <dout, v>, then ds
  float *lse;       ///< [queryBlock], in bits
  float *delta;     ///< [queryBlock]
  float *scales;    ///< [queryBlock], all `scale`
  float *dkeys;     ///< [S][P]
  float *dvalues;   ///< [S][P]
  float *keys;      ///< [keyBlock][D], in bfloat16 only
  float *values;    ///< [keyBlock][D], in bfloat16 only
  float *slopes;    ///< [keyBlock][queryBlock], of the softcap if there is one

  BackwardScratch(const AttentionShape &shape, float *scratch) {
    const int64_t D = shape.headDim, P = paddedDim(D);
    ScratchTaker taker{scratch};
    queries = taker.take(D * queryBlock);
    douts = taker.take(D * queryBlock);
    dqueries = taker.take(D * queryBlock);
    queryRows = taker.take(queryBlock * P);
    doutRows = taker.take(queryBlock * P);
    weights = taker.take(keyBlock * queryBlock);
    gradients = taker.take(keyBlock * queryBlock);
    lse = taker.take(queryBlock);
    delta = taker.take(queryBlock);
    scales = taker.take(queryBlock);
    dkeys = taker.take(shape.keys * P);
    dvalues = taker.take(shape.keys * P);
    keys = taker.take(shape.bf16 ? keyBlock * D : 0);
    values = taker.take(shape.bf16 ? keyBlock * D : 0);
    slopes = taker.take(shape.softcap > 0.0f ? keyBlock * queryBlock : 0);
  }
};

/// to[row][0..P) = factor * from[row * stride + (0..D)), then zeros.
template <typename T> void packRows(const T *from, int64_t stride, int64_t rows, int64_t dim, float factor, float *to) {
  const int64_t padded = paddedDim(dim);
  for (int64_t row = 0; row < rows; ++row, from += stride, to += padded) {
    for (int64_t d = 0; d < dim; ++d)
      to[d] = load1(from + d) * factor;
    for (int64_t d = dim; d < padded; ++d)
      to[d] = 0.0f;
  }
}

/// The opposite: to[row * stride + (0..D)) = from[row][0..D).
template <typename T> void unpackRows(const float *from, int64_t rows, int64_t dim, T *to, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row, from += paddedDim(dim), to += stride) {
    int64_t d = 0;
    for (; d + 4 <= dim; d += 4)
      store4(to + d, load4(from + d));
    for (; d < dim; ++d)
      store1(to + d, from[d]);
  }
}

template <typename T> MOE_INLINE float dot(const T *a, const T *b, int64_t count) {
  Vec4 sum = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    sum += load4(a + i) * load4(b + i);
  float result = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  for (; i < count; ++i)
    result += load1(a + i) * load1(b + i);
  return result;
}

/// Scores and <dout, v> become p * drop and ds.
template <bool partial, bool drop>
MOE_INLINE void weightRow(const Tile &tile, const BackwardScratch &scratch, const Dropout &dropout, int64_t row,
                          int64_t vector) {
  for (; vector < tile.vectors; ++vector) {
    const int64_t at = row * queryBlock + vector * lanes;
    Vec weight = exp2(load(scratch.weights + at) - load(scratch.lse + vector * lanes));
    if constexpr (partial)
      weight = tile.visible(row, vector) ? weight : Vec{};
    Vec gradient = load(scratch.gradients + at), dropped = weight;
    if constexpr (drop) {
      Vec factor = dropout.factor(tile, row, vector);
      gradient *= factor;
      dropped *= factor;
    }
    store(scratch.weights + at, dropped);
    store(scratch.gradients + at, weight * (gradient - load(scratch.delta + vector * lanes)));
  }
}

template <bool drop>
void backwardTile(const AttentionShape &shape, const Tile &tile, const BackwardScratch &scratch, const Dropout &dropout,
                  WideRows keys, WideRows values) {
  const int64_t D = shape.headDim, P = paddedDim(D);
  for (int64_t row = 0, rows; row < tile.keys; row += rows) {
    int64_t vector;
    rows = tile.run(row, vector);
    const int64_t at = row * queryBlock + vector * lanes, live = tile.vectors - vector;
    if (live == 0)
      continue;
    Product product{.rows = rows,
                    .vectors = live,
                    .depth = D,
                    .a = keys.first + row * keys.stride,
                    .aRow = keys.stride,
                    .aDepth = 1,
                    .b = scratch.queries + vector * lanes,
                    .bStride = queryBlock,
                    .c = scratch.weights + at,
                    .cStride = queryBlock};
    multiply<Start::Zero>(product);
    product.a = values.first + row * values.stride;
    product.aRow = values.stride;
    product.b = scratch.douts + vector * lanes;
    product.c = scratch.gradients + at;
    multiply<Start::Zero>(product);

    if (shape.softcap > 0.0f)
      saturate(shape, tile, row, row + rows, vector, scratch.weights, scratch.slopes);
    for (int64_t r = row; r < row + rows; ++r) {
      if (tile.partial)
        weightRow<true, drop>(tile, scratch, dropout, r, vector);
      else
        weightRow<false, drop>(tile, scratch, dropout, r, vector);
    }

    if (shape.softcap > 0.0f)
      for (int64_t r = row; r < row + rows; ++r)
        for (int64_t v = vector; v < tile.vectors; ++v) {
          float *gradient = scratch.gradients + r * queryBlock + v * lanes;
          store(gradient, load(gradient) * load(scratch.slopes + r * queryBlock + v * lanes));
        }

    multiply<Start::Add>({.rows = D,
                          .vectors = live,
                          .depth = rows,
                          .a = keys.first + row * keys.stride,
                          .aRow = 1,
                          .aDepth = keys.stride,
                          .b = scratch.gradients + at,
                          .bStride = queryBlock,
                          .c = scratch.dqueries + vector * lanes,
                          .cStride = queryBlock});
    Product outer{.rows = rows,
                  .vectors = (D + lanes - 1) / lanes,
                  .depth = tile.queries - vector * lanes,
                  .a = scratch.weights + at,
                  .aRow = queryBlock,
                  .aDepth = 1,
                  .b = scratch.doutRows + vector * lanes * P,
                  .bStride = P,
                  .c = scratch.dvalues + (tile.firstKey + row) * P,
                  .cStride = P};
    multiply<Start::Add>(outer);
    outer.a = scratch.gradients + at;
    outer.b = scratch.queryRows + vector * lanes * P;
    outer.c = scratch.dkeys + (tile.firstKey + row) * P;
    multiply<Start::Add>(outer);
  }
}

template <typename T, bool drop>
void backwardQueries(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                     const AttentionDropout &dropped, const BackwardScratch &scratch, int64_t sequence, int64_t head,
                     int64_t firstQuery) {
  const T *q = static_cast<const T *>(pointers.q), *k = static_cast<const T *>(pointers.k),
          *v = static_cast<const T *>(pointers.v), *out = static_cast<const T *>(pointers.out),
          *dout = static_cast<const T *>(pointers.dout);
  const int64_t D = shape.headDim, stride = shape.heads * D;
  const int64_t queries = smaller(queryBlock, shape.queries - firstQuery);
  const int64_t at = ((sequence * shape.queries + firstQuery) * shape.heads + head) * D; // in q, dq, out, dout
  const int64_t kvHead = head / (shape.heads / shape.kvHeads);
  const int64_t kvAt = (sequence * shape.keys * shape.kvHeads + kvHead) * D, kvStride = shape.kvHeads * D;
  const Dropout dropout(shape, dropped, sequence, head);
  const uint8_t *padding = pointers.padding ? pointers.padding + sequence * shape.keys : nullptr;
  const int64_t begin = keyBegin(shape, firstQuery), end = keyEnd(shape, firstQuery, queries);
  auto prefetchTile = [&](int64_t key) {
    const int64_t rows = smaller(keyBlock, end - key);
    prefetchRows(k + kvAt + key * kvStride, kvStride, rows, D);
    prefetchRows(v + kvAt + key * kvStride, kvStride, rows, D);
  };

  prefetchRows(q + at, stride, queries, D);
  prefetchRows(dout + at, stride, queries, D);
  prefetchRows(out + at, stride, queries, D);
  prefetchTile(begin);
  packTransposed(q + at, stride, queries, D, scoreFactor(shape), scratch.queries);
  packTransposed(dout + at, stride, queries, D, 1.0f, scratch.douts);
  packRows(q + at, stride, queries, D, shape.scale, scratch.queryRows);
  packRows(dout + at, stride, queries, D, 1.0f, scratch.doutRows);
  const float *lse = pointers.lse + (sequence * shape.heads + head) * shape.queries + firstQuery;
  for (int64_t i = 0; i < queries; ++i) {
    scratch.lse[i] = lse[i] * log2e;
    scratch.delta[i] = dot(dout + at + i * stride, out + at + i * stride, D);
  }
  for (int64_t i = queries; i < queryBlock; ++i)
    scratch.lse[i] = scratch.delta[i] = 0.0f;
  __builtin_memset(scratch.dqueries, 0, sizeof(float) * size_t(D * queryBlock));

  for (int64_t key = begin; key < end; key += keyBlock) {
    prefetchTile(key + keyBlock);
    Tile tile(shape, firstQuery, queries, key, end, padding);
    if (tile.hidden)
      continue;
    backwardTile<drop>(shape, tile, scratch, dropout,
                       widen(k + kvAt + key * kvStride, kvStride, tile.keys, D, scratch.keys),
                       widen(v + kvAt + key * kvStride, kvStride, tile.keys, D, scratch.values));
  }
  unpackTransposed(scratch.dqueries, scratch.scales, queries, D, static_cast<T *>(pointers.dq) + at, stride);
}

template <typename T, bool drop>
void backwardItem(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                  const AttentionDropout &dropout, const BackwardScratch &scratch, int64_t item) {
  const int64_t sequence = item / shape.kvHeads, kvHead = item % shape.kvHeads, group = shape.heads / shape.kvHeads;
  const int64_t D = shape.headDim, P = paddedDim(D), S = shape.keys;
  __builtin_memset(scratch.dkeys, 0, sizeof(float) * size_t(S * P));
  __builtin_memset(scratch.dvalues, 0, sizeof(float) * size_t(S * P));
  for (int64_t head = kvHead * group; head < (kvHead + 1) * group; ++head)
    for (int64_t query = 0; query < shape.queries; query += queryBlock)
      backwardQueries<T, drop>(shape, pointers, dropout, scratch, sequence, head, query);
  const int64_t at = (sequence * S * shape.kvHeads + kvHead) * D, stride = shape.kvHeads * D;
  unpackRows(scratch.dkeys, S, D, static_cast<T *>(pointers.dk) + at, stride);
  unpackRows(scratch.dvalues, S, D, static_cast<T *>(pointers.dv) + at, stride);
}

} // namespace

void MOE_ISA_NAME(attentionBackward,
                  MOE_ISA_SUFFIX)(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                                  const AttentionDropout &dropout, int64_t begin, int64_t end, float *scratch) {
  BackwardScratch pieces(shape, scratch);
  for (int64_t i = 0; i < queryBlock; ++i)
    pieces.scales[i] = shape.scale;
  const bool drop = dropout.threshold > 0;
  auto *compute = shape.bf16 ? drop ? backwardItem<Bf16, true> : backwardItem<Bf16, false>
                  : drop     ? backwardItem<float, true>
                             : backwardItem<float, false>;
  for (int64_t item = begin; item < end; ++item)
    compute(shape, pointers, dropout, pieces, item);
}

} // namespace moe::cpu
