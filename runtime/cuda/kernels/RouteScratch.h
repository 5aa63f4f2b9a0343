//===- RouteScratch.h - What the kernels of a routing step tell each other ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ROUTESCRATCH_H
#define MOEC_RUNTIME_CUDA_KERNELS_ROUTESCRATCH_H

#include <cstdint>

namespace moe::cuda {

/// Rows of a group whose sums are one partial sum. A constant, so that bits do not depend on the device.
inline constexpr int64_t kRouteRowsPerBlock = 64;

/// Pieces of the scratch of a forward step.
struct RouteScratch {
  double *partial; ///< [G, ceil(S / kRouteRowsPerBlock), E + 1]: of each expert's probability, then of the entropy
  int32_t *order;  ///< [G, S]: rows by descending first probability; only if batch-prioritised
};

/// Doubles of RouteScratch::partial.
constexpr int64_t routePartials(int64_t groups, int64_t tokens, int64_t experts) {
  return groups * ((tokens + kRouteRowsPerBlock - 1) / kRouteRowsPerBlock) * (experts + 1);
}

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ROUTESCRATCH_H
