//===- Blocks.h - Blocks that ranks send each other ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// What collectives need besides sending: blocks that lie apart in a tensor are brought together and back, summands of
// several ranks added up in the order of the ranks.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_BLOCKS_H
#define MOEC_RUNTIME_CUDA_KERNELS_BLOCKS_H

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

/// For p < outer, q < inner: copies the row of `bytes` bytes at from + p * fromOuter + q * fromInner to
/// to + p * toOuter + q * toInner. Steps are in rows. Source and destination do not overlap.
struct RowMove {
  const void *from = nullptr;
  void *to = nullptr;
  int64_t bytes = 0;
  int64_t outer = 0, inner = 0;
  int64_t fromOuter = 0, fromInner = 0;
  int64_t toOuter = 0, toInner = 0;
};

/// Launches only; nothing if there are no rows.
cudaError_t moveRows(const RowMove &move, cudaStream_t stream);

/// What is added up.
enum class Summand { Float32, Bf16, Int32, Int64, Flag };

/// target[i] = parts[i] + parts[stride + i] + parts[2 * stride + i] + .., i < count, from the left, or the maximum of
/// them. Floating point is added up in float32 and rounded once, integers wrap around, a NaN is greater than all
/// numbers, flags know the maximum alone. `target` may be a part. Strides and counts in elements.
struct PartsSum {
  const void *parts = nullptr;
  void *target = nullptr;
  int64_t stride = 0, ranks = 0, count = 0;
  Summand type = Summand::Float32;
  bool maximum = false;
};

/// Launches only.
cudaError_t sumParts(const PartsSum &sum, cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_BLOCKS_H
