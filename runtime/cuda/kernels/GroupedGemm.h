//===- GroupedGemm.h - Products of blocks of rows with the weights of their experts -------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Message `GroupedGemm` of runtime/plan/plan.proto says what is computed. Every sum is taken in order, in float32, so
// that results have the bits of the obvious loop.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_GROUPEDGEMM_H
#define MOEC_RUNTIME_CUDA_KERNELS_GROUPEDGEMM_H

#include "runtime/cuda/kernels/Element.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

/// The most weights that are operands of their own: their addresses travel as parameters of the kernel.
inline constexpr int64_t kMostSeparateExperts = 256;

/// The fields of the message.
struct GroupedGemmShape {
  int64_t blocks = 0;
  int64_t blockRows = 0;
  int64_t experts = 0;
  int64_t left = 0;
  int64_t right = 0;
  bool transposed = false;
  bool separate = false;
  Element element = Element::Float32; ///< of all matrices
};

struct GroupedGemmPointers {
  const void *left = nullptr;               ///< [R, left]
  const int32_t *blockExpert = nullptr;     ///< [blocks]; negative, or beyond the last: no expert
  const void *right = nullptr;              ///< [R, right]; of a weight gradient
  void *result = nullptr;                   ///< [R, right]; of a product
  void *weights[kMostSeparateExperts] = {}; ///< one, or one for each expert; written by a weight gradient
  int32_t *outside = nullptr;               ///< raised where a block's expert is beyond the last; null: nobody asks
};

cudaError_t groupedGemm(const GroupedGemmShape &shape, const GroupedGemmPointers &pointers, cudaStream_t stream);
cudaError_t groupedGemmWeightGrad(const GroupedGemmShape &shape, const GroupedGemmPointers &pointers,
                                  cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_GROUPEDGEMM_H
