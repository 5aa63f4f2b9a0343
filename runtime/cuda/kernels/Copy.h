//===- Copy.h - A copy whose source the device chooses ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_COPY_H
#define MOEC_RUNTIME_CUDA_KERNELS_COPY_H

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

/// to[0, bytes) = from[i * bytes, (i + 1) * bytes) with i read from the device when the kernel runs. All pointers are
/// of the device.
struct IndexedCopy {
  const int64_t *index = nullptr; ///< i
  const void *from = nullptr;     ///< `items` times `bytes`
  void *to = nullptr;             ///< `bytes`; must not overlap `from`
  int64_t bytes = 0;
  int64_t items = 0;
  int32_t *outside = nullptr; ///< counts the copies whose i is not in [0, items): they write zeros; null: nobody asks
};

/// Launches only.
cudaError_t copyIndexed(const IndexedCopy &copy, cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_COPY_H
