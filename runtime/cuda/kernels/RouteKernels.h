//===- RouteKernels.h - The two halves of routing, for Route.cpp alone --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ROUTEKERNELS_H
#define MOEC_RUNTIME_CUDA_KERNELS_ROUTEKERNELS_H

#include "runtime/cuda/kernels/Route.h"
#include "runtime/cuda/kernels/RouteScratch.h"

namespace moe::cuda {

/// Everything that rows compute by themselves: probs, expert, partial sums.
cudaError_t launchRouteRows(const RouteShape &shape, const RouteForwardPointers &pointers, const RouteScratch &scratch,
                            cudaStream_t stream);

/// Then, if batch-prioritised, the order of rows.
cudaError_t launchRouteOrder(const RouteShape &shape, const RouteForwardPointers &pointers, const RouteScratch &scratch,
                             cudaStream_t stream);

/// Then slot, weight, token, aux, firstFraction, metrics.
cudaError_t launchRouteGroups(const RouteShape &shape, const RouteForwardPointers &pointers,
                              const RouteScratch &scratch, cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ROUTEKERNELS_H
