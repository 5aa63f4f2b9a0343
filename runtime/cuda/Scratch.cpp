//===- Scratch.cpp - Scratch memory of the CUDA backend's library work --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Scratch.h"

#include "runtime/cuda/kernels/RouteScratch.h"

#include <algorithm>
#include <cmath>

namespace moe::cuda {
namespace {

/// What NVIDIA recommends for Hopper and later; earlier devices get by with less.
constexpr double kLargestWorkspace = 32 << 20;
/// More parts of k than this lose more in the reduction than they win in occupancy.
constexpr double kMostParts = 16;

/// Product of sizes that the structural check has not seen yet, in bytes and without wrapping around.
uint64_t bytes(double product) {
  return static_cast<uint64_t>(std::clamp(product, 0.0, 0x1p62));
}

} // namespace

uint64_t gemmWorkspaceBytes(const plan::Gemm &gemm) {
  // Partial sums are float32 whatever the operands are.
  double partial = 4.0 * static_cast<double>(gemm.batch()) * static_cast<double>(gemm.m()) *
                   static_cast<double>(gemm.n()) * kMostParts;
  return bytes(std::min(partial, kLargestWorkspace)) + kWorkspaceAlignment;
}

uint64_t attentionScratchBytes(const plan::Attention &attention) {
  if (!attention.backward())
    return 0;
  return bytes(4.0 * static_cast<double>(attention.batch()) * static_cast<double>(attention.heads()) *
               static_cast<double>(attention.queries()));
}

uint64_t routeScratchBytes(const plan::Route &route) {
  if (route.backward())
    return 0;
  double rows = static_cast<double>(route.groups()) * static_cast<double>(route.tokens());
  double parts = static_cast<double>(route.groups()) *
                 std::ceil(static_cast<double>(route.tokens()) / static_cast<double>(kRouteRowsPerBlock));
  return bytes(8.0 * parts * (static_cast<double>(route.experts()) + 1.0) +
               (route.batch_prioritized() ? 4.0 * rows : 0));
}

uint64_t scatterAddScratchBytes(const plan::ScatterAdd &scatter) {
  return bytes(4.0 * (static_cast<double>(scatter.table_rows()) + static_cast<double>(scatter.rows())));
}

} // namespace moe::cuda
