//===- Route.cpp - The steps of routing, and its gradient ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Route.h"

#include "runtime/cpu/kernels/RouteGradient.h"
#include "runtime/cuda/kernels/Gpu.h"
#include "runtime/cuda/kernels/RouteKernels.h"

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr uint32_t kThreads = 256;
constexpr uint32_t kRowsPerBlock = kThreads / warpSize;
constexpr int64_t kMost = 0x7FFFFFFF;

/// A warp for each row.
MOE_KERNEL(kThreads) void routeRowGradient(RouteShape shape, RouteBackwardPointers p) {
  const int64_t E = shape.experts, row = int64_t{blockIndex()} * kRowsPerBlock + warpIndex();
  if (row >= shape.groups * shape.tokens)
    return; // all lanes of the warp
  const int64_t group = static_cast<uint32_t>(row) / static_cast<uint32_t>(shape.tokens), lane = laneIndex();
  const float *probs = p.probs + row * E, *fraction = p.firstFraction + group * E;
  float *dlogits = p.dlogits + row * E;

  // From aux: (E / S) * daux * p[j] * (fraction[j] - sum_e p[e] * fraction[e]).
  double mean = 0.0;
  for (int64_t e = lane; e < E; e += warpSize)
    mean += double(probs[e]) * double(fraction[e]);
  mean = warpSum(mean);
  const double factor = double(p.daux[group]) * double(E) / double(shape.tokens);

  // `through` is a gradient sum_i grad[i] * (onehot[i] - p) of the weights that the softmax spreads over the row.
  float grad[2] = {0.0f, 0.0f}, through = 0.0f;
  int32_t expert[2] = {-1, -1};
  if (shape.topK == 1) {
    expert[0] = p.expert[row];
    if (p.slot[row] >= 0)
      through = grad[0] = p.dweight[row] * probs[expert[0]];
  } else {
    expert[0] = p.expert[row * 2];
    expert[1] = p.expert[row * 2 + 1];
    const float prob[2] = {probs[expert[0]], probs[expert[1]]};
    const float dw[2] = {p.dweight[row * 2], p.dweight[row * 2 + 1]};
    const bool kept[2] = {p.slot[row * 2] >= 0, p.slot[row * 2 + 1] >= 0};
    if (!cpu::weightGradient(prob, dw, kept, shape.normalizeBeforeDropping, grad))
      through = grad[0] + grad[1];
  }
  for (int64_t j = lane; j < E; j += warpSize) {
    float gradient = float(factor * double(probs[j]) * (double(fraction[j]) - mean)) - through * probs[j];
    gradient += j == expert[0] ? grad[0] : 0.0f;
    gradient += j == expert[1] ? grad[1] : 0.0f;
    dlogits[j] = gradient;
  }
}

} // namespace

cudaError_t routeForward(const RouteShape &shape, const RouteForwardPointers &pointers, cudaStream_t stream) {
  if (shape.experts > maximumExperts || shape.groups * shape.tokens * shape.topK > kMost ||
      shape.groups * shape.capacity * shape.experts > kMost)
    return cudaErrorInvalidValue;
  auto *partial = static_cast<double *>(pointers.scratch);
  const RouteScratch scratch{
      .partial = partial,
      .order = reinterpret_cast<int32_t *>(partial + routePartials(shape.groups, shape.tokens, shape.experts))};
  cudaError_t error = launchRouteRows(shape, pointers, scratch, stream);
  if (error == cudaSuccess && shape.batchPrioritized)
    error = launchRouteOrder(shape, pointers, scratch, stream);
  if (error == cudaSuccess)
    error = launchRouteGroups(shape, pointers, scratch, stream);
  return error;
}

cudaError_t routeBackward(const RouteShape &shape, const RouteBackwardPointers &pointers, cudaStream_t stream) {
  if (shape.groups * shape.tokens > kMost)
    return cudaErrorInvalidValue;
  return launch<routeRowGradient>(
      {.blocks = blocksFor(shape.groups * shape.tokens, kRowsPerBlock), .threads = kThreads}, stream, shape, pointers);
}

} // namespace moe::cuda
