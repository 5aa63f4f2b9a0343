//===- AttentionTile.h - Tiles of scores, for the attention kernels -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A block of 16 x 16 threads owns a tile of 64 rows and 64 columns of scores. Thread (y, x) has rows y + 16 i and
// columns x + 16 j: rows are then reduced within half a warp. Products of tiles read their operands from shared memory,
// a chunk of the depth at a time.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONTILE_H
#define MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONTILE_H

#include "runtime/cpu/kernels/Philox.h"
#include "runtime/cuda/kernels/Attention.h"
#include "runtime/cuda/kernels/Element.h"
#include "runtime/cuda/kernels/Gpu.h"

#include <cmath>
#include <type_traits>

namespace moe::cuda {

inline constexpr int kAttentionThreads = 256;
inline constexpr int64_t kTile = 64;
/// Threads along a side, and rows or columns of a thread.
inline constexpr int kSide = 16;
inline constexpr int kEach = 4;
/// Depth of a chunk of a product of two tiles; columns of a chunk of weights times rows.
inline constexpr int kDepth = 32;
inline constexpr float kLog2e = 0x1.715476p0f;
inline constexpr double kLn2 = 0.6931471805599453;
/// Below every score that matters; finite, so that differences of hidden scores are numbers.
inline constexpr float kHidden = -1e30f;

/// Four consecutive floats that are loaded as one.
struct alignas(16) Float4 {
  float at[4];
};

/// A bit for each key of a tile, in shared memory.
using VisibleKeys = uint32_t[kTile / gpu::warpSize];

/// Shared memory of a block. Rows are padded so that neighbours lie in different banks.
template <int width> struct TileShared {
  union {
    struct {
      float rows[kTile][kDepth + 4];
      float columns[kTile][kDepth + 4];
    } operands;                  ///< of a product of two tiles
    float values[kDepth][width]; ///< of weights times rows
  };
  float weights[kTile][kTile + 4];
  VisibleKeys visible;
};

/// Up to 64 rows of `depth` elements, `stride` apart; further rows and elements are read as zeros.
template <typename T> struct Rows {
  const T *first;
  int stride, count, depth;

  MOE_DEVICE Rows(const void *tensor, int64_t at, int64_t stride, int64_t count, int64_t depth)
      : first(static_cast<const T *>(tensor) + at), stride(static_cast<int>(stride)),
        count(static_cast<int>(gpu::smaller(count, kTile))), depth(static_cast<int>(depth)) {}
  MOE_DEVICE float at(int row, int d) const {
    return row < count && d < depth ? toFloat(first[row * stride + d]) : 0.0f;
  }
};

MOE_DEVICE int tileY() {
  return static_cast<int>(gpu::threadIndex()) / kSide;
}
MOE_DEVICE int tileX() {
  return static_cast<int>(gpu::threadIndex()) % kSide;
}

/// result[i][j] = <rows[y + 16 i], columns[x + 16 j]>. All threads are done with the operands on return.
template <typename T, int width>
MOE_DEVICE void multiplyTiles(TileShared<width> &shared, const Rows<T> &rows, const Rows<T> &columns,
                              float (&result)[kEach][kEach]) {
  const int x = tileX(), y = tileY();
  const auto thread = static_cast<int>(gpu::threadIndex());
  MOE_UNROLL
  for (auto &row : result)
    MOE_UNROLL
  for (float &value : row)
    value = 0.0f;
  for (int depth = 0; depth < rows.depth; depth += kDepth) {
    MOE_UNROLL
    for (int step = 0; step < kTile * kDepth / kAttentionThreads; ++step) {
      const int i = thread / kDepth + step * (kAttentionThreads / kDepth), d = thread % kDepth;
      shared.operands.rows[i][d] = rows.at(i, depth + d);
      shared.operands.columns[i][d] = columns.at(i, depth + d);
    }
    gpu::barrier();
    MOE_NO_UNROLL
    for (int d = 0; d < kDepth; d += 4) {
      Float4 a[kEach], b[kEach];
      MOE_UNROLL
      for (int i = 0; i < kEach; ++i) {
        a[i] = reinterpret_cast<const Float4 &>(shared.operands.rows[y + kSide * i][d]);
        b[i] = reinterpret_cast<const Float4 &>(shared.operands.columns[x + kSide * i][d]);
      }
      MOE_UNROLL
      for (int i = 0; i < kEach; ++i)
        MOE_UNROLL
      for (int j = 0; j < kEach; ++j)
        MOE_UNROLL
      for (int at = 0; at < 4; ++at)
        result[i][j] = gpu::multiplyAdd(a[i].at[at], b[j].at[at], result[i][j]);
    }
    gpu::barrier();
  }
}

/// Columns of a result that is `width` wide: thread x has `group` neighbours at x * group + 16 * group * n.
template <int width> struct Columns {
  static constexpr int each = width / kSide;
  static constexpr int group = each < 4 ? each : 4;
  MOE_DEVICE static int of(int n) { return (n / group) * kSide * group + tileX() * group + n % group; }
};

/// sums[i][n] += sum_c weights[y + 16 i][c] * values[c][column n], c over the rows of `values`, of which columns from
/// `firstColumn` on are read. A thread may come from writing its weights if all are done with the operands of the last
/// product; all are done with weights and values on return.
template <typename T, int width>
MOE_DEVICE void addWeighted(TileShared<width> &shared, const Rows<T> &values, int firstColumn,
                            float (&sums)[kEach][Columns<width>::each]) {
  const int y = tileY();
  const auto thread = static_cast<int>(gpu::threadIndex());
  for (int first = 0; first < values.count; first += kDepth) {
    MOE_UNROLL
    for (int step = 0; step < kDepth * width / kAttentionThreads; ++step) {
      const int i = thread + step * kAttentionThreads;
      shared.values[i / width][i % width] = values.at(first + i / width, firstColumn + i % width);
    }
    gpu::barrier();
    MOE_NO_UNROLL
    for (int c = 0; c < kDepth; c += 4) {
      Float4 weights[kEach];
      MOE_UNROLL
      for (int i = 0; i < kEach; ++i)
        weights[i] = reinterpret_cast<const Float4 &>(shared.weights[y + kSide * i][first + c]);
      MOE_UNROLL
      for (int at = 0; at < 4; ++at)
        MOE_UNROLL
      for (int n = 0; n < Columns<width>::each; ++n) {
        const float value = shared.values[c + at][Columns<width>::of(n)];
        MOE_UNROLL
        for (int i = 0; i < kEach; ++i)
          sums[i][n] = gpu::multiplyAdd(weights[i].at[at], value, sums[i][n]);
      }
    }
    gpu::barrier();
  }
}

/// Which weights of a (sequence, head) are dropped.
struct Dropout {
  std::array<uint32_t, 2> key; ///< Philox.h
  uint32_t threshold;          ///< dropped iff (word >> 8) < threshold; 0: none is
  float keep;                  ///< 1 / (1 - dropout)
};

inline Dropout dropoutOf(const AttentionShape &shape) {
  if (shape.dropout <= 0.0f)
    return {.key = {}, .threshold = 0, .keep = 1.0f};
  return {.key = philox::siteKey(shape.seed, shape.site),
          // n * 2^-24 < p  iff  n < ceil(p * 2^24), and the product is exact.
          .threshold = static_cast<uint32_t>(std::ceil(shape.dropout * 0x1p24f)),
          .keep = 1.0f / (1.0f - shape.dropout)};
}

/// The factors of the weights of one (sequence, head): 0, or 1 / (1 - dropout).
struct HeadDropout {
  Dropout dropout;
  uint64_t update, first; ///< number of the element (sequence, head, 0, 0)
  uint64_t keys;

  MOE_DEVICE HeadDropout(const AttentionShape &shape, const Dropout &dropout, const int64_t *rng, int64_t sequence,
                         int64_t head)
      : dropout(dropout), update(0), first(0), keys(static_cast<uint64_t>(shape.keys)) {
    if (dropout.threshold == 0)
      return;
    update = static_cast<uint64_t>(rng[0]);
    first = (static_cast<uint64_t>(rng[1]) * static_cast<uint64_t>(shape.batch * shape.heads) +
             static_cast<uint64_t>(sequence * shape.heads + head)) *
            static_cast<uint64_t>(shape.queries) * keys;
  }
  MOE_DEVICE float factor(int64_t query, int64_t key) const {
    if (dropout.threshold == 0)
      return 1.0f;
    const uint64_t element = first + static_cast<uint64_t>(query) * keys + static_cast<uint64_t>(key);
    return philox::word(dropout.key, update, element) >> 8 < dropout.threshold ? 0.0f : dropout.keep;
  }
};

/// Sets `visible` to the keys of the tile at `firstKey` that are not padding and below `keys`; false if there are none.
/// All threads are done with the last one's before, and may read it after. `padding`: of the sequence, or null.
MOE_DEVICE bool loadVisible(VisibleKeys &visible, const uint8_t *padding, int64_t firstKey, int64_t keys) {
  if (gpu::threadIndex() < kTile) {
    const int64_t key = firstKey + gpu::threadIndex();
    const uint32_t bits = gpu::warpBallot(key < keys && !(padding && padding[key]));
    if (gpu::laneIndex() == 0)
      visible[gpu::warpIndex()] = bits;
  }
  gpu::barrier();
  return (visible[0] | visible[1]) != 0;
}

/// Whether key `column` of the tile (a number below kTile) is visible.
MOE_DEVICE bool isVisible(const VisibleKeys &visible, int column) {
  return (visible[column / 32] >> (column % 32) & 1) != 0;
}

/// The last key that a query sees, one past, without regard to padding.
MOE_DEVICE int64_t keyEnd(const AttentionShape &shape, int64_t query) {
  if (!shape.causal)
    return shape.keys;
  return gpu::smaller(gpu::larger(query + 1 + shape.keys - shape.queries, int64_t{0}), shape.keys);
}

/// The first key that a query sees, without regard to padding.
MOE_DEVICE int64_t keyBegin(const AttentionShape &shape, int64_t query) {
  if (shape.window == 0)
    return 0;
  return gpu::larger(query + 1 + shape.keys - shape.queries - shape.window, int64_t{0});
}

/// Which queries see which keys, without regard to padding: those in a band beside the diagonal.
struct Band {
  int64_t first; ///< key minus query of its first diagonal
  uint64_t width;

  MOE_DEVICE explicit Band(const AttentionShape &shape) {
    const int64_t beyond = shape.queries + shape.keys, last = shape.causal ? 0 : beyond;
    first = shape.window > 0 ? 1 - shape.window : -beyond;
    width = static_cast<uint64_t>(last - first + 1);
    first += shape.keys - shape.queries;
  }
  MOE_DEVICE bool sees(int64_t query, int64_t key) const { return static_cast<uint64_t>(key - query - first) < width; }
};

/// From products of queries and keys to scores in bits. Kernels come with a softcap and without: tanh needs registers.
template <bool capped> struct ScoreScale {
  float scale, cap, inverseCap; ///< of the softcap in bits

  MOE_DEVICE explicit ScoreScale(const AttentionShape &shape)
      : scale(capped ? shape.scale / shape.softcap : shape.scale * kLog2e), cap(shape.softcap * kLog2e),
        inverseCap(capped ? 1.0f / cap : 0.0f) {}
  MOE_DEVICE float score(float product) const {
    if constexpr (capped)
      return cap * std::tanh(product * scale);
    return product * scale;
  }
  /// `gradient` times the derivative of tanh at a score.
  MOE_DEVICE float sloped(float gradient, float score) const {
    if constexpr (!capped)
      return gradient;
    const float fraction = score * inverseCap;
    return gradient * (1.0f - fraction * fraction);
  }
};

/// Calls `run` with the constants that kernels are compiled for, as std::integral_constant: columns of the head
/// dimension (more than 128 are taken in chunks), and whether there is a softcap.
template <typename Run> cudaError_t specialised(const AttentionShape &shape, Run run) {
  auto byWidth = [&](auto capped) {
    if (shape.headDim <= 32)
      return run(std::integral_constant<int, 32>(), capped);
    if (shape.headDim <= 64)
      return run(std::integral_constant<int, 64>(), capped);
    return run(std::integral_constant<int, 128>(), capped);
  };
  return shape.softcap > 0.0f ? byWidth(std::true_type()) : byWidth(std::false_type());
}

/// What the softmax of a head starts with: nothing, or its sink, which counts as a key that every query sees.
template <typename T> struct Sink {
  float largest, total;

  MOE_DEVICE Sink(const void *sinks, int64_t head) : largest(kHidden), total(0.0f) {
    const float sink = sinks ? toFloat(static_cast<const T *>(sinks)[head]) * kLog2e : kHidden;
    if (sink <= kHidden) // but NaN stays NaN
      return;
    largest = sink;
    total = 1.0f;
  }
};

/// Sum and maximum of a row over the 16 threads that share it.
MOE_DEVICE float rowSum(float value) {
  for (uint32_t mask = kSide / 2; mask > 0; mask /= 2)
    value += gpu::warpShuffleXor(value, mask);
  return value;
}
MOE_DEVICE float rowLargest(float value) {
  for (uint32_t mask = kSide / 2; mask > 0; mask /= 2)
    value = gpu::larger(value, gpu::warpShuffleXor(value, mask));
  return value;
}

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONTILE_H
