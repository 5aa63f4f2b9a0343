//===- GroupedGemm.cpp - Products of blocks of rows with the weights of their experts -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A thread block computes a tile of a product, or of the gradient of one expert's weight: 256 threads with 4 x 4 sums
// each, from slices of both operands in shared memory. Who computes what depends on the shape alone.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/GroupedGemm.h"

#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr uint32_t kThreads = 256;
/// Sums of a thread in each direction, the tile's, and terms in shared memory at a time.
constexpr uint32_t kSums = 4;
constexpr uint32_t kTile = 64;
constexpr uint32_t kDepth = 16;
constexpr uint32_t kLanes = kTile / kSums;

struct Shared {
  // One more keeps the columns of a slice in different banks.
  float a[kDepth][kTile + 1], b[kDepth][kTile + 1];
};

using Sums = float[kSums][kSums];

/// Fills a slice [kDepth, kTile] from a matrix whose element (i, k) is at `i * strideTile + k * strideDepth`, i <
/// tiles, k < depth; zeros elsewhere. Neighbouring threads read along the stride of one.
template <typename T>
MOE_DEVICE void loadSlice(float (&slice)[kDepth][kTile + 1], const T *matrix, int64_t strideTile, int64_t strideDepth,
                          int64_t tiles, int64_t depth) {
  for (uint32_t at = threadIndex(); at < kDepth * kTile; at += kThreads) {
    const uint32_t i = strideTile == 1 ? at % kTile : at / kDepth, k = strideTile == 1 ? at / kTile : at % kDepth;
    slice[k][i] = i < tiles && k < depth ? toFloat(matrix[i * strideTile + k * strideDepth]) : 0.0f;
  }
}

/// One operand of a product: a matrix [tiles, depth] with strides.
template <typename T> struct Side {
  const T *matrix;
  int64_t strideTile, strideDepth, tiles;
};

/// sum[i][j] += sum over k < depth, in order, of a(i, k) b(j, k), the thread's rows and columns being every kLanes-th.
template <typename T>
MOE_DEVICE void addProducts(Shared &shared, const Side<T> &a, const Side<T> &b, int64_t depth, Sums &sum) {
  const uint32_t row = threadIndex() / kLanes, column = threadIndex() % kLanes;
  for (int64_t begin = 0; begin < depth; begin += kDepth) {
    loadSlice(shared.a, a.matrix + begin * a.strideDepth, a.strideTile, a.strideDepth, a.tiles, depth - begin);
    loadSlice(shared.b, b.matrix + begin * b.strideDepth, b.strideTile, b.strideDepth, b.tiles, depth - begin);
    barrier();
    const auto terms = static_cast<uint32_t>(smaller(depth - begin, int64_t{kDepth}));
    for (uint32_t k = 0; k < terms; ++k) {
      MOE_UNROLL
      for (uint32_t i = 0; i < kSums; ++i)
        MOE_UNROLL
      for (uint32_t j = 0; j < kSums; ++j)
        sum[i][j] += shared.a[k][row + i * kLanes] * shared.b[k][column + j * kLanes];
    }
    barrier();
  }
}

/// Stores the tile at `to`, of which [rows, columns] lie in the matrix.
template <typename T> MOE_DEVICE void storeTile(const Sums &sum, T *to, int64_t stride, int64_t rows, int64_t columns) {
  const uint32_t row = threadIndex() / kLanes, column = threadIndex() % kLanes;
  for (uint32_t i = 0; i < kSums; ++i)
    for (uint32_t j = 0; j < kSums; ++j)
      if (row + i * kLanes < rows && column + j * kLanes < columns)
        fromFloat(sum[i][j], to[(row + i * kLanes) * stride + column + j * kLanes]);
}

template <typename T>
MOE_DEVICE T *weightOf(const GroupedGemmShape &shape, const GroupedGemmPointers &p, int64_t expert) {
  if (shape.separate)
    return static_cast<T *>(p.weights[expert]);
  return static_cast<T *>(p.weights[0]) + expert * shape.left * shape.right;
}

template <typename T>
MOE_KERNEL_SHARING(kThreads, 2)
void groupedProduct(GroupedGemmShape shape, GroupedGemmPointers p) {
  auto &shared = *sharedMemory<Shared>();
  const int64_t columns = divideUp(shape.right, int64_t{kTile}), rows = divideUp(shape.blockRows, int64_t{kTile});
  const int64_t column = blockIndex() % columns * kTile, row = blockIndex() / columns % rows * kTile;
  const int64_t block = blockIndex() / columns / rows;
  const int64_t expert = p.blockExpert[block], first = block * shape.blockRows + row;
  Sums sum = {};
  if (expert >= shape.experts) {
    if (p.outside && row == 0 && column == 0 && threadIndex() == 0)
      atomicAdd(p.outside, 1);
  } else if (expert >= 0) {
    const T *left = static_cast<const T *>(p.left) + first * shape.left;
    const int64_t strideColumn = shape.transposed ? shape.left : 1, strideDepth = shape.transposed ? 1 : shape.right;
    const T *weight = weightOf<const T>(shape, p, expert) + column * strideColumn;
    addProducts<T>(shared, {left, shape.left, 1, shape.blockRows - row},
                   {weight, strideColumn, strideDepth, shape.right - column}, shape.left, sum);
  }
  storeTile(sum, static_cast<T *>(p.result) + first * shape.right + column, shape.right, shape.blockRows - row,
            shape.right - column);
}

template <typename T>
MOE_KERNEL_SHARING(kThreads, 2)
void groupedWeightSum(GroupedGemmShape shape, GroupedGemmPointers p) {
  auto &shared = *sharedMemory<Shared>();
  const int64_t columns = divideUp(shape.right, int64_t{kTile}), rows = divideUp(shape.left, int64_t{kTile});
  const int64_t column = blockIndex() % columns * kTile, row = blockIndex() / columns % rows * kTile;
  const int64_t expert = blockIndex() / columns / rows;
  const auto *left = static_cast<const T *>(p.left) + row;
  const auto *right = static_cast<const T *>(p.right) + column;
  Sums sum = {};
  for (int64_t block = 0; block < shape.blocks; ++block) {
    const int64_t of = p.blockExpert[block], first = block * shape.blockRows;
    if (of == expert)
      addProducts<T>(shared, {left + first * shape.left, 1, shape.left, shape.left - row},
                     {right + first * shape.right, 1, shape.right, shape.right - column}, shape.blockRows, sum);
    else if (of >= shape.experts && p.outside && blockIndex() == 0 && threadIndex() == 0)
      atomicAdd(p.outside, 1);
  }
  storeTile(sum, weightOf<T>(shape, p, expert) + row * shape.right + column, shape.right, shape.left - row,
            shape.right - column);
}

template <auto kernel>
cudaError_t run(const GroupedGemmShape &shape, const GroupedGemmPointers &pointers, int64_t tiles,
                cudaStream_t stream) {
  if (tiles > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  return launch<kernel>({.blocks = static_cast<uint32_t>(tiles), .threads = kThreads, .sharedBytes = sizeof(Shared)},
                        stream, shape, pointers);
}

} // namespace

cudaError_t groupedGemm(const GroupedGemmShape &shape, const GroupedGemmPointers &pointers, cudaStream_t stream) {
  const int64_t tiles =
      shape.blocks * divideUp(shape.blockRows, int64_t{kTile}) * divideUp(shape.right, int64_t{kTile});
  return shape.element == Element::Bf16 ? run<groupedProduct<Bf16>>(shape, pointers, tiles, stream)
                                        : run<groupedProduct<float>>(shape, pointers, tiles, stream);
}

cudaError_t groupedGemmWeightGrad(const GroupedGemmShape &shape, const GroupedGemmPointers &pointers,
                                  cudaStream_t stream) {
  const int64_t tiles = shape.experts * divideUp(shape.left, int64_t{kTile}) * divideUp(shape.right, int64_t{kTile});
  return shape.element == Element::Bf16 ? run<groupedWeightSum<Bf16>>(shape, pointers, tiles, stream)
                                        : run<groupedWeightSum<float>>(shape, pointers, tiles, stream);
}

} // namespace moe::cuda
