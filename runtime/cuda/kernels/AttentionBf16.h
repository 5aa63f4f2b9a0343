//===- AttentionBf16.h - Tiles on tensor cores, for the bfloat16 attention kernels --------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A block of four warps has 64 rows of a matrix of scores, 16 for each warp. Head dimensions are padded with zeros to
// 32, 64 or 128. Weights and ds are rounded to bfloat16 before they multiply; all sums are float32.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONBF16_H
#define MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONBF16_H

#include "runtime/cuda/kernels/AttentionTile.h"
#include "runtime/cuda/kernels/TensorCore.h"

namespace moe::cuda {

inline constexpr int kBf16Threads = 128;
inline constexpr int kWarpRows = 16;

/// Rows are 16 bytes longer than they need be, so that the eight rows of a matrix lie in different banks.
template <int rows, int dim> struct Bf16Tile {
  static constexpr int stride = dim + 8;
  Bf16 at[rows][stride];

  /// `count` rows of it, from `first` on.
  template <int count> MOE_DEVICE const Bf16Tile<count, dim> &from(int first) const {
    return reinterpret_cast<const Bf16Tile<count, dim> &>(at[first]);
  }
};

/// 16 bytes of a row.
struct alignas(16) Bf16x8 {
  uint32_t word[4];
};

/// Fills a tile with rows of a tensor; what is outside is zero. Sizes are multiples of 8, pointers aligned to 16.
template <int rows, int dim> MOE_DEVICE void loadTile(Bf16Tile<rows, dim> &tile, const Rows<Bf16> &from) {
  constexpr int pieces = dim / 8;
  static_assert(rows * pieces % kBf16Threads == 0);
  MOE_UNROLL
  for (int step = 0; step < rows * pieces / kBf16Threads; ++step) {
    const int i = static_cast<int>(gpu::threadIndex()) + step * kBf16Threads, row = i / pieces, d = i % pieces * 8;
    Bf16x8 piece{};
    if (row < from.count && d < from.depth)
      piece = *reinterpret_cast<const Bf16x8 *>(from.first + int64_t{row} * from.stride + d);
    // NOLINTNEXTLINE(clang-analyzer-security.ArrayBound): a block has kBf16Threads threads
    *reinterpret_cast<Bf16x8 *>(&tile.at[row][d]) = piece;
  }
}

/// The warp's 16 rows of a tile, as factors.
template <int dim> struct WarpRows {
  FragmentA part[dim / 16];

  template <int rows> MOE_DEVICE void load(const Bf16Tile<rows, dim> &tile) {
    MOE_UNROLL
    for (int k = 0; k < dim / 16; ++k)
      part[k] = loadA(&tile.at[gpu::warpIndex() * kWarpRows][k * 16], tile.stride);
  }
};

/// The k-th 16 columns of the warp's 16 rows.
template <int dim> MOE_DEVICE FragmentA partOf(const WarpRows<dim> &rows, int k) {
  return rows.part[k];
}
template <int rows, int dim> MOE_DEVICE FragmentA partOf(const Bf16Tile<rows, dim> &tile, int k) {
  return loadA(&tile.at[gpu::warpIndex() * kWarpRows][k * 16], tile.stride);
}

/// result = rows * transpose of tile: 16 x `columns`. Rows: of the warp in registers, or of the block in shared memory.
template <typename Rows, int columns, int dim>
MOE_DEVICE void multiply(const Rows &rows, const Bf16Tile<columns, dim> &tile, Accumulator (&result)[columns / 8]) {
  MOE_UNROLL
  for (int n = 0; n < columns / 8; ++n)
    result[n] = {};
  MOE_UNROLL
  for (int k = 0; k < dim / 16; ++k) {
    const FragmentA a = partOf(rows, k);
    MOE_UNROLL
    for (int n = 0; n < columns / 16; ++n) {
      FragmentB b[2];
      loadColumns(&tile.at[n * 16][k * 16], tile.stride, b);
      multiplyAccumulate(a, b[0], result[2 * n]);
      multiplyAccumulate(a, b[1], result[2 * n + 1]);
    }
  }
}

/// result += weights (16 x columns, rounded) * tile: 16 x dim.
template <int columns, int dim>
MOE_DEVICE void addWeighted(const Accumulator (&weights)[columns / 8], const Bf16Tile<columns, dim> &tile,
                            Accumulator (&result)[dim / 8]) {
  MOE_UNROLL
  for (int k = 0; k < columns / 16; ++k) {
    const FragmentA a = asA(weights[2 * k], weights[2 * k + 1]);
    MOE_UNROLL
    for (int n = 0; n < dim / 16; ++n) {
      FragmentB b[2];
      loadRows(&tile.at[k * 16][n * 16], tile.stride, b);
      multiplyAccumulate(a, b[0], result[2 * n]);
      multiplyAccumulate(a, b[1], result[2 * n + 1]);
    }
  }
}

/// Writes factor[i] * rows i * 8 + g of the warp's 16 rows to a tensor, of which `to` are the block's rows.
template <int dim>
MOE_DEVICE void storeRows(const Accumulator (&values)[dim / 8], const float (&factor)[2], Bf16 *to, int64_t stride,
                          int count, int depth) {
  MOE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int row = static_cast<int>(gpu::warpIndex()) * kWarpRows + accumulatorRow(2 * i);
    MOE_UNROLL
    for (int n = 0; n < dim / 8; ++n) {
      const int d = n * 8 + accumulatorColumn(0);
      if (row < count && d < depth)
        *reinterpret_cast<uint32_t *>(to + row * stride + d) =
            packBf16(values[n].at[2 * i] * factor[i], values[n].at[2 * i + 1] * factor[i]);
    }
  }
}

/// Sum and maximum over the four lanes that share a row of an accumulator.
MOE_DEVICE float quadSum(float value) {
  value += gpu::warpShuffleXor(value, 1);
  return value + gpu::warpShuffleXor(value, 2);
}
MOE_DEVICE float quadLargest(float value) {
  value = gpu::larger(value, gpu::warpShuffleXor(value, 1));
  return gpu::larger(value, gpu::warpShuffleXor(value, 2));
}

/// Whether the kernels below take a call: otherwise those of AttentionTile.h do.
template <typename... Pointers> bool fitsTensorCores(const AttentionShape &shape, Pointers... pointers) {
  const uintptr_t addresses = (reinterpret_cast<uintptr_t>(pointers) | ...);
  return shape.element == Element::Bf16 && shape.headDim % 8 == 0 && shape.headDim <= 128 && addresses % 16 == 0;
}

/// The calls that fit.
cudaError_t attentionForwardBf16(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                                 cudaStream_t stream);
/// `scratch` holds delta [B, H, T] already.
cudaError_t attentionBackwardBf16(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                                  cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ATTENTIONBF16_H
