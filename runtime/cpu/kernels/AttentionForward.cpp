//===- AttentionForward.cpp - Compiled once per instruction set ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/AttentionBlock.h"

#include <math.h>

namespace moe::cpu {
namespace {

/// Below every score that matters; finite, so that differences of hidden scores are numbers.
constexpr float hidden = -1e30f;

/// Working memory of one thread.
struct ForwardScratch {
  float *queries; ///< [D][queryBlock], times scoreFactor
  float *sums;    ///< [D][queryBlock], output before division by `total`
  float *weights; ///< [keyBlock][queryBlock], scores, then softmax weights
  float *largest; ///< [queryBlock], of the scores so far
  float *total;   ///< [queryBlock], of exp2(score - largest)
  float *rescale; ///< [queryBlock], what `sums` must be multiplied by
  float *keys;    ///< [keyBlock][D], in bfloat16 only
  float *values;  ///< [keyBlock][D], in bfloat16 only

  ForwardScratch(const AttentionShape &shape, float *scratch) {
    ScratchTaker taker{scratch};
    queries = taker.take(shape.headDim * queryBlock);
    sums = taker.take(shape.headDim * queryBlock);
    weights = taker.take(keyBlock * queryBlock);
    largest = taker.take(queryBlock);
    total = taker.take(queryBlock);
    rescale = taker.take(queryBlock);
    keys = taker.take(shape.bf16 ? keyBlock * shape.headDim : 0);
    values = taker.take(shape.bf16 ? keyBlock * shape.headDim : 0);
  }
};

/// Rows of the tile in which `vector` is live: groups start at the same or a later vector as rows grow.
MOE_INLINE int64_t liveRows(const Tile &tile, int64_t vector) {
  if (!tile.partial)
    return tile.keys;
  int64_t end = 0;
  while (end < tile.keys && tile.firstVector(end) <= vector)
    end += groupRows;
  return smaller(end, tile.keys);
}

/// The online softmax step of one vector of queries: scores become weights; statistics are brought up to date.
template <bool partial, bool drop>
MOE_INLINE void softmaxVector(const Tile &tile, const ForwardScratch &scratch, const Dropout &dropout, int64_t vector) {
  float *weights = scratch.weights + vector * lanes;
  int64_t rows = liveRows(tile, vector);
  Vec before = load(scratch.largest + vector * lanes);
  Vec largest[4] = {before, before, before, before};
  auto look = [&](int64_t row, int chain) __attribute__((always_inline)) {
    Vec score = load(weights + row * queryBlock);
    if constexpr (partial) {
      score = tile.visible(row, vector) ? score : broadcast(hidden);
      store(weights + row * queryBlock, score);
    }
    largest[chain] = larger(score, largest[chain]);
  };
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    look(row, 0);
    look(row + 1, 1);
    look(row + 2, 2);
    look(row + 3, 3);
  }
  for (; row < rows; ++row)
    look(row, 0);
  Vec now = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
  Vec total[2] = {};
  auto weigh = [&](int64_t row, int chain) __attribute__((always_inline)) {
    Vec weight = exp2(load(weights + row * queryBlock) - now);
    if constexpr (partial)
      weight = tile.visible(row, vector) ? weight : Vec{};
    total[chain] += weight;
    if constexpr (drop)
      weight *= dropout.factor(tile, row, vector);
    store(weights + row * queryBlock, weight);
  };
  for (row = 0; row + 2 <= rows; row += 2) {
    weigh(row, 0);
    weigh(row + 1, 1);
  }
  for (; row < rows; ++row)
    weigh(row, 0);
  Vec rescale = exp2(before - now);
  store(scratch.largest + vector * lanes, now);
  store(scratch.rescale + vector * lanes, rescale);
  store(scratch.total + vector * lanes,
        multiplyAdd(load(scratch.total + vector * lanes), rescale, total[0] + total[1]));
}

template <bool drop>
void forwardTile(const AttentionShape &shape, const Tile &tile, const ForwardScratch &scratch, const Dropout &dropout,
                 WideRows keys, WideRows values) {
  int64_t vector;
  for (int64_t row = 0, rows; row < tile.keys; row += rows) {
    rows = tile.run(row, vector);
    multiply<Start::Zero>({.rows = rows,
                           .vectors = tile.vectors - vector,
                           .depth = shape.headDim,
                           .a = keys.first + row * keys.stride,
                           .aRow = keys.stride,
                           .aDepth = 1,
                           .b = scratch.queries + vector * lanes,
                           .bStride = queryBlock,
                           .c = scratch.weights + row * queryBlock + vector * lanes,
                           .cStride = queryBlock});
    if (shape.softcap > 0.0f)
      saturate(shape, tile, row, row + rows, vector, scratch.weights, nullptr);
  }
  for (vector = tile.firstVector(0); vector < tile.vectors; ++vector) {
    if (tile.partial)
      softmaxVector<true, drop>(tile, scratch, dropout, vector);
    else
      softmaxVector<false, drop>(tile, scratch, dropout, vector);
  }
  for (int64_t row = 0, rows; row < tile.keys; row += rows) {
    rows = tile.run(row, vector);
    Product product{.rows = shape.headDim,
                    .vectors = tile.vectors - vector,
                    .depth = rows,
                    .a = values.first + row * values.stride,
                    .aRow = 1,
                    .aDepth = values.stride,
                    .b = scratch.weights + row * queryBlock + vector * lanes,
                    .bStride = queryBlock,
                    .c = scratch.sums + vector * lanes,
                    .cStride = queryBlock,
                    .factor = scratch.rescale + vector * lanes};
    if (row == 0) // all live vectors of the tile are in its first run
      multiply<Start::Scale>(product);
    else
      multiply<Start::Add>(product);
  }
}

template <typename T, bool drop>
void forwardItem(const AttentionShape &shape, const AttentionForwardPointers &pointers, const AttentionDropout &dropped,
                 const ForwardScratch &scratch, int64_t item) {
  const T *q = static_cast<const T *>(pointers.q), *k = static_cast<const T *>(pointers.k),
          *v = static_cast<const T *>(pointers.v);
  const int64_t D = shape.headDim;
  const int64_t blocks = (shape.queries + queryBlock - 1) / queryBlock;
  // Later queries see more keys if causal: alternate from both ends, so that a run of items is an even share of the
  // work.
  const int64_t turn = item % blocks, block = turn % 2 == 0 ? turn / 2 : blocks - 1 - turn / 2;
  const int64_t firstQuery = block * queryBlock, head = item / blocks % shape.heads,
                sequence = item / blocks / shape.heads;
  const int64_t queries = smaller(queryBlock, shape.queries - firstQuery);
  const int64_t kvHead = head / (shape.heads / shape.kvHeads);
  const int64_t at = ((sequence * shape.queries + firstQuery) * shape.heads + head) * D; // in q and out
  const int64_t kvAt = (sequence * shape.keys * shape.kvHeads + kvHead) * D, kvStride = shape.kvHeads * D;
  const Dropout dropout(shape, dropped, sequence, head);
  const uint8_t *padding = pointers.padding ? pointers.padding + sequence * shape.keys : nullptr;

  const int64_t begin = keyBegin(shape, firstQuery), end = keyEnd(shape, firstQuery, queries);
  auto prefetchTile = [&](int64_t key) {
    const int64_t rows = smaller(keyBlock, end - key);
    prefetchRows(k + kvAt + key * kvStride, kvStride, rows, D);
    prefetchRows(v + kvAt + key * kvStride, kvStride, rows, D);
  };
  prefetchTile(begin);
  packTransposed(q + at, shape.heads * D, queries, D, scoreFactor(shape), scratch.queries);
  __builtin_memset(scratch.sums, 0, sizeof(float) * size_t(D * queryBlock));
  // The sink counts as a key that every query sees.
  const float sink = pointers.sinks ? load1(static_cast<const T *>(pointers.sinks) + head) * log2e : hidden;
  for (int64_t i = 0; i < queryBlock; ++i) {
    scratch.largest[i] = sink <= hidden ? hidden : sink; // NaN stays NaN
    scratch.total[i] = sink <= hidden ? 0.0f : 1.0f;
  }
  for (int64_t key = begin; key < end; key += keyBlock) {
    prefetchTile(key + keyBlock);
    Tile tile(shape, firstQuery, queries, key, end, padding);
    if (tile.hidden)
      continue;
    forwardTile<drop>(shape, tile, scratch, dropout,
                      widen(k + kvAt + key * kvStride, kvStride, tile.keys, D, scratch.keys),
                      widen(v + kvAt + key * kvStride, kvStride, tile.keys, D, scratch.values));
  }

  float *lse = pointers.lse + (sequence * shape.heads + head) * shape.queries + firstQuery;
  for (int64_t i = 0; i < queries; ++i) {
    float total = scratch.total[i];
    bool empty = total == 0.0f; // sees no key: a visible one contributes at least 2^-126
    lse[i] =
        empty ? -__builtin_inff() : float((double(scratch.largest[i]) + ::log2(double(total))) * 0.6931471805599453);
    scratch.rescale[i] = empty ? 0.0f : 1.0f / total;
  }
  unpackTransposed(scratch.sums, scratch.rescale, queries, D, static_cast<T *>(pointers.out) + at, shape.heads * D);
}

} // namespace

void MOE_ISA_NAME(attentionForward,
                  MOE_ISA_SUFFIX)(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                                  const AttentionDropout &dropout, int64_t begin, int64_t end, float *scratch) {
  ForwardScratch pieces(shape, scratch);
  const bool drop = dropout.threshold > 0;
  auto *compute = shape.bf16 ? drop ? forwardItem<Bf16, true> : forwardItem<Bf16, false>
                  : drop     ? forwardItem<float, true>
                             : forwardItem<float, false>;
  for (int64_t item = begin; item < end; ++item)
    compute(shape, pointers, dropout, pieces, item);
}

} // namespace moe::cpu
