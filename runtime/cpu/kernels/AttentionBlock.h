//===- AttentionBlock.h - What the attention kernels share --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A tile is a block of keys (its rows) by a block of queries (its columns, along the vectors): the transpose of the
// usual picture. Softmax statistics are then vectors, keys and values are read as broadcast scalars (in place if they
// are float32), and any head dimension fills the vectors. Queries are packed transposed, once per block. Internal
// linkage: see Vector.h.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ATTENTIONBLOCK_H
#define MOEC_RUNTIME_CPU_KERNELS_ATTENTIONBLOCK_H

#include "runtime/cpu/kernels/AttentionKernels.h"
#include "runtime/cpu/kernels/MicroKernel.h"

namespace moe::cpu {
namespace {

constexpr float log2e = 0x1.715476p0f;
constexpr float ln2 = 0x1.62e43p-1f;

MOE_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/// Keys of a tile are treated in groups of this many rows: a group starts at the same vector in every step.
constexpr int64_t groupRows = 16;

/// One tile and which part of it is visible.
struct Tile {
  int64_t firstQuery; ///< number of the query in column 0
  int64_t queries;    ///< columns, at most queryBlock
  int64_t vectors;    ///< vectors that hold them
  int64_t firstKey;
  int64_t keys;                  ///< rows, at most keyBlock
  int64_t lead;                  ///< no column before row + lead sees the key of `row`
  bool partial;                  ///< some (key, query) is hidden
  bool hidden;                   ///< all keys are padding
  int32_t firstColumn[keyBlock]; ///< that sees the key of each row (if partial)
  uint32_t columns[keyBlock];    ///< how many do, from there on (if partial); perhaps more than there are

  /// `padding` is that of the sequence, [S] or null.
  MOE_INLINE Tile(const AttentionShape &shape, int64_t firstQuery, int64_t queries, int64_t firstKey, int64_t keyEnd,
                  const uint8_t *padding)
      : firstQuery(firstQuery), queries(queries), vectors((queries + lanes - 1) / lanes), firstKey(firstKey),
        keys(smaller(keyBlock, keyEnd - firstKey)) {
    int64_t diagonal = firstKey - firstQuery - (shape.keys - shape.queries); // where the last visible key is the first
    int64_t trail = shape.window > 0 ? diagonal + shape.window : queryBlock; // column row + trail sees `row` no more
    lead = shape.causal ? diagonal : -keyBlock;
    int64_t padded = 0;
    if (padding)
      for (int64_t row = 0; row < keys; ++row)
        padded += padding[firstKey + row] != 0;
    hidden = padded == keys;
    partial = padded > 0 || keys - 1 + lead > 0 || trail < queries;
    if (!partial)
      return;
    for (int64_t row = 0; row < keys; ++row) {
      bool seen = !(padded > 0 && padding[firstKey + row]) && row + trail > 0;
      firstColumn[row] = int32_t(row + lead);
      columns[row] = seen ? uint32_t(smaller(row + trail, queryBlock) - smaller(row + lead, queryBlock)) : 0;
    }
  }

  /// First vector with a visible column in the group of rows that starts at `row`.
  MOE_INLINE int64_t firstVector(int64_t row) const {
    return row + lead > 0 ? smaller((row + lead) / lanes, vectors) : 0;
  }

  /// The lanes of `vector` that are visible in `row` (all ones).
  MOE_INLINE IVec visible(int64_t row, int64_t vector) const {
    // Numbers before the first one wrap around and are large.
    return UVec(laneNumbers() - (firstColumn[row] - int32_t(vector * lanes))) < UVec{} + columns[row];
  }

  /// Rows from `row` on, in whole groups, that start at the same vector as `row`; sets `vector` to it.
  MOE_INLINE int64_t run(int64_t row, int64_t &vector) const {
    vector = firstVector(row);
    int64_t end = row + groupRows;
    while (end < keys && firstVector(end) == vector)
      end += groupRows;
    return smaller(end, keys) - row;
  }
};

/// One past the last key that any of the queries sees.
MOE_INLINE int64_t keyEnd(const AttentionShape &shape, int64_t firstQuery, int64_t queries) {
  if (!shape.causal)
    return shape.keys;
  int64_t end = firstQuery + queries + shape.keys - shape.queries;
  return end < 0 ? 0 : smaller(end, shape.keys);
}

/// A key before which none of the queries from `firstQuery` on sees any.
MOE_INLINE int64_t keyBegin(const AttentionShape &shape, int64_t firstQuery) {
  int64_t begin = firstQuery + shape.keys - shape.queries - shape.window + 1;
  return shape.window == 0 || begin < 0 ? 0 : begin;
}

/// What queries are multiplied by to give scores: in bits, or as fractions of the softcap.
MOE_INLINE float scoreFactor(const AttentionShape &shape) {
  return shape.softcap > 0.0f ? shape.scale / shape.softcap : shape.scale * log2e;
}

/// In rows [row, end) of a tile, from `vector` on: fractions of the softcap become scores in bits, and `slopes`, unless
/// null, the derivatives of tanh there.
MOE_INLINE void saturate(const AttentionShape &shape, const Tile &tile, int64_t row, int64_t end, int64_t vector,
                         float *scores, float *slopes) {
  const float cap = shape.softcap * log2e;
  for (; row < end; ++row)
    for (int64_t at = row * queryBlock + vector * lanes; at < row * queryBlock + tile.vectors * lanes; at += lanes) {
      Vec slope, fraction = tanh(load(scores + at), &slope);
      store(scores + at, fraction * cap);
      if (slopes)
        store(slopes + at, slope);
    }
}

/// Asks for rows that are needed soon. They lie a whole sequence position apart, which hardware does not foresee.
template <typename T> MOE_INLINE void prefetchRows(const T *from, int64_t stride, int64_t rows, int64_t dim) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t d = 0; d < dim; d += 64 / int64_t(sizeof(T)))
      __builtin_prefetch(from + row * stride + d);
}

/// Rows of a tile's keys or values as float32.
struct WideRows {
  const float *first;
  int64_t stride;
};

/// In place, or in `buffer`, which has keyBlock * dim floats.
MOE_INLINE WideRows widen(const float *from, int64_t stride, int64_t, int64_t, float *) {
  return {from, stride};
}
MOE_INLINE WideRows widen(const Bf16 *from, int64_t stride, int64_t rows, int64_t dim, float *buffer) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t d = 0; d < dim; ++d)
      buffer[row * dim + d] = load1(from + row * stride + d);
  return {buffer, dim};
}

/// to[d][column] = factor * from[column * stride + d] for `queries` columns; zero up to a whole vector.
template <typename T>
MOE_INLINE void packTransposed(const T *from, int64_t stride, int64_t queries, int64_t dim, float factor, float *to) {
  int64_t padded = (queries + lanes - 1) / lanes * lanes;
  int64_t column = 0;
  for (; column + 4 <= queries; column += 4) {
    const T *source = from + column * stride;
    int64_t d = 0;
    for (; d + 4 <= dim; d += 4) {
      Vec4 rows[4];
      for (int r = 0; r < 4; ++r)
        rows[r] = load4(source + r * stride + d) * factor;
      transpose4(rows);
      for (int r = 0; r < 4; ++r)
        store4(to + (d + r) * queryBlock + column, rows[r]);
    }
    for (; d < dim; ++d)
      for (int r = 0; r < 4; ++r)
        to[d * queryBlock + column + r] = load1(source + r * stride + d) * factor;
  }
  for (; column < padded; ++column)
    for (int64_t d = 0; d < dim; ++d)
      to[d * queryBlock + column] = column < queries ? load1(from + column * stride + d) * factor : 0.0f;
}

/// to[column * stride + d] = factor[column] * from[d][column] for `queries` columns.
template <typename T>
MOE_INLINE void unpackTransposed(const float *from, const float *factor, int64_t queries, int64_t dim, T *to,
                                 int64_t stride) {
  int64_t column = 0;
  for (; column + 4 <= queries; column += 4) {
    T *target = to + column * stride;
    int64_t d = 0;
    for (; d + 4 <= dim; d += 4) {
      Vec4 rows[4];
      for (int r = 0; r < 4; ++r)
        rows[r] = load4(from + (d + r) * queryBlock + column) * load4(factor + column);
      transpose4(rows);
      for (int r = 0; r < 4; ++r)
        store4(target + r * stride + d, rows[r]);
    }
    for (; d < dim; ++d)
      for (int r = 0; r < 4; ++r)
        store1(target + r * stride + d, from[d * queryBlock + column + r] * factor[column + r]);
  }
  for (; column < queries; ++column)
    for (int64_t d = 0; d < dim; ++d)
      store1(to + column * stride + d, from[d * queryBlock + column] * factor[column]);
}

/// What multiplies a weight: 0 or 1/(1-dropout). Element numbers as Attention.h says.
struct Dropout {
  PhiloxLanes philox;
  int32_t threshold; ///< dropped iff (word >> 8) < threshold
  float keep;        ///< 1/(1-dropout)
  uint64_t keys;
  uint64_t base; ///< number of element (b, h, 0, 0)

  MOE_INLINE Dropout(const AttentionShape &shape, const AttentionDropout &dropout, int64_t sequence, int64_t head)
      : philox{{dropout.key[0], dropout.key[1]}, dropout.update}, threshold(dropout.threshold), keep(dropout.keep),
        keys(uint64_t(shape.keys)),
        base((dropout.microBatch * uint64_t(shape.batch * shape.heads) + uint64_t(sequence * shape.heads + head)) *
             uint64_t(shape.queries) * keys) {}

  MOE_INLINE Vec factor(const Tile &tile, int64_t row, int64_t vector) const {
    uint64_t query = uint64_t(tile.firstQuery + vector * lanes);
    UVec words = philox.words(base + query * keys + uint64_t(tile.firstKey + row), keys);
    return IVec(words >> 8) < IVec{} + threshold ? Vec{} : broadcast(keep);
  }
};

/// Takes consecutive pieces of a thread's scratch, each aligned to 64 bytes.
struct ScratchTaker {
  float *next;
  MOE_INLINE float *take(int64_t floats) {
    float *piece = next;
    next += (floats + 15) / 16 * 16;
    return piece;
  }
};

} // namespace
} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ATTENTIONBLOCK_H
