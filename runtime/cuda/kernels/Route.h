//===- Route.h - Capacity routing of tokens to experts ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The same results as runtime/cpu/kernels/Route.h, whose comments say what they are: probabilities have the same bits,
// so choices, slots and tokens are equal for the same logits; sums over rows may round differently.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ROUTE_H
#define MOEC_RUNTIME_CUDA_KERNELS_ROUTE_H

#include "runtime/cpu/kernels/Route.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

using cpu::RouteBackwardPointers;
using cpu::RouteForwardPointers;
using cpu::RouteShape;

/// A row of logits, and the counts of a group, must fit into the shared memory of a block.
inline constexpr int64_t maximumExperts = 1024;

/// Pointers are of the device; `scratch` has routeScratchBytes of runtime/cuda/Scratch.h and is aligned to 8 bytes.
/// At most three launches. cudaErrorInvalidValue: more than maximumExperts, or 2^31 rows or slots.
cudaError_t routeForward(const RouteShape &shape, const RouteForwardPointers &pointers, cudaStream_t stream);

/// One launch.
cudaError_t routeBackward(const RouteShape &shape, const RouteBackwardPointers &pointers, cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ROUTE_H
