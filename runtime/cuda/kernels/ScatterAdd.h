//===- ScatterAdd.h - Rows added to rows of a table ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// table[index[i], :] += rows[i, :] in order of i: the same bits as the CPU kernel's. Rows of the table are independent,
// so each is summed by blocks of its own, which find out what belongs to it from lists that other kernels have linked.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_SCATTERADD_H
#define MOEC_RUNTIME_CUDA_KERNELS_SCATTERADD_H

#include "runtime/cpu/kernels/ScatterAdd.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

using cpu::ScatterAddShape;

/// Device pointers, aligned to their elements.
struct ScatterAddPointers {
  const void *index = nullptr; ///< [N] int64 or int32; negative ones are skipped, and so are those of V and more
  bool index64 = false;        ///< which of the two
  const float *rows = nullptr; ///< [N, M]
  float *table = nullptr;      ///< [V, M]
  void *scratch = nullptr;     ///< scatterAddScratchBytes of runtime/cuda/Scratch.h, aligned to 4 bytes
  int32_t *outside = nullptr;  ///< counts indices of V and more, over all launches; null: nobody asks
};

/// Launches only. N and V below 2^31.
cudaError_t scatterAdd(const ScatterAddShape &shape, const ScatterAddPointers &pointers, cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_SCATTERADD_H
