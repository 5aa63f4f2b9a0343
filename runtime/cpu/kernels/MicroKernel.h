//===- MicroKernel.h - Small register-blocked matrix products -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// C[r, :] = init + sum_k A[r, k] * B[k, :], with vectors along the rows of B and C and scalars of A broadcast. A is
// read in place through two strides, hence transposed or not. Every element is summed in ascending k by one fused chain
// (where the ISA has it), so block sizes do not change bits. Internal linkage: see Vector.h.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_MICROKERNEL_H
#define MOEC_RUNTIME_CPU_KERNELS_MICROKERNEL_H

#include "runtime/cpu/kernels/Vector.h"

namespace moe::cpu {
namespace {

/// What a sum starts from: zero, C, or C times a factor per column.
enum class Start { Zero, Add, Scale };

/// Operands of a product; strides in elements. `vectors` counts vectors per row of B and C.
struct Product {
  int64_t rows;
  int64_t vectors;
  int64_t depth;
  const float *a;
  int64_t aRow;   ///< from A[r, k] to A[r + 1, k]
  int64_t aDepth; ///< from A[r, k] to A[r, k + 1]
  const float *b;
  int64_t bStride;
  float *c;
  int64_t cStride;
  const float *factor = nullptr; ///< for Start::Scale, one per column
};

/// Accumulators of one block of R rows and V vectors stay in registers for the whole depth.
template <int R, int V, Start start>
[[gnu::noinline]] void microKernel(const Product &product, int64_t row, int64_t vector) {
  const float *a = product.a + row * product.aRow;
  const float *b = product.b + vector * lanes;
  float *c = product.c + row * product.cStride + vector * lanes;
  const int64_t aRow = product.aRow, aDepth = product.aDepth, bStride = product.bStride;
  Vec sum[R][V];
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < V; ++v) {
      if constexpr (start == Start::Zero)
        sum[r][v] = Vec{};
      else if constexpr (start == Start::Add)
        sum[r][v] = load(c + r * product.cStride + v * lanes);
      else
        sum[r][v] = load(c + r * product.cStride + v * lanes) * load(product.factor + (vector + v) * lanes);
    }
  }
  for (int64_t k = product.depth; k > 0; --k) {
    Vec bs[V];
#pragma clang loop unroll(full)
    for (int v = 0; v < V; ++v)
      bs[v] = load(b + v * lanes);
#pragma clang loop unroll(full)
    for (int r = 0; r < R; ++r) {
      Vec as = broadcast(a[r * aRow]);
#pragma clang loop unroll(full)
      for (int v = 0; v < V; ++v)
        sum[r][v] = multiplyAdd(as, bs[v], sum[r][v]);
    }
    a += aDepth;
    b += bStride;
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < R; ++r)
#pragma clang loop unroll(full)
    for (int v = 0; v < V; ++v)
      store(c + r * product.cStride + v * lanes, sum[r][v]);
}

/// Rows per block for V vectors: at least eight accumulators to hide the latency of two fused multiply-adds per cycle,
/// as many as the registers hold (32 of AVX-512, else 16) beside V vectors of B and one broadcast.
constexpr int blockRows(int V) {
  return lanes == 16 ? (V == 1 ? 12 : V == 2 ? 8 : V == 3 ? 6 : 4) : (V == 1 ? 8 : 4);
}
/// Vectors per block at most.
constexpr int blockVectors = lanes == 16 ? 4 : lanes == 8 ? 3 : 2;

template <int R, int V, Start start> MOE_INLINE int64_t someRows(const Product &product, int64_t row, int64_t vector) {
  for (; row + R <= product.rows; row += R)
    microKernel<R, V, start>(product, row, vector);
  return row;
}

template <int V, Start start> void columnBlock(const Product &product, int64_t vector) {
  int64_t row = someRows<blockRows(V), V, start>(product, 0, vector);
  if constexpr (blockRows(V) > 4)
    row = someRows<4, V, start>(product, row, vector);
  row = someRows<2, V, start>(product, row, vector);
  someRows<1, V, start>(product, row, vector);
}

template <Start start> void multiply(const Product &product) {
  int64_t vector = 0;
  for (; vector + blockVectors <= product.vectors; vector += blockVectors)
    columnBlock<blockVectors, start>(product, vector);
  int64_t left = product.vectors - vector;
  if constexpr (blockVectors > 3)
    if (left == 3)
      columnBlock<3, start>(product, vector);
  if constexpr (blockVectors > 2)
    if (left == 2)
      columnBlock<2, start>(product, vector);
  if (left == 1)
    columnBlock<1, start>(product, vector);
}

} // namespace
} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_MICROKERNEL_H
