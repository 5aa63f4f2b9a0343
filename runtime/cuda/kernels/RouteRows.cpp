//===- RouteRows.cpp - What rows of a routing step compute by themselves ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A warp for each row. The sum of a softmax is taken as runtime/cpu/kernels/Route.cpp takes it: four partial sums, of
// the elements e = 0, 1, 2, 3 (mod 4) in ascending order.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Exp2.h"
#include "runtime/cuda/kernels/Gpu.h"
#include "runtime/cuda/kernels/RouteKernels.h"

#include <cfloat>
#include <cmath>

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / warpSize;
constexpr int64_t kRowsPerWarp = kRouteRowsPerBlock / kWarps;

/// A candidate for the largest value of a row; ties go to the lowest expert. None: `expert` is INT32_MAX.
struct Largest {
  float value = -INFINITY;
  int32_t expert = INT32_MAX;

  MOE_DEVICE void consider(float otherValue, int32_t otherExpert) {
    if (otherValue > value || (otherValue == value && otherExpert < expert)) {
      value = otherValue;
      expert = otherExpert;
    }
  }
  /// The largest of the warp; expert 0 if there is none, or none larger than -inf.
  MOE_DEVICE int32_t ofWarp() {
    for (uint32_t mask = warpSize / 2; mask > 0; mask /= 2)
      consider(warpShuffleXor(value, mask), warpShuffleXor(expert, mask));
    return value > -INFINITY ? expert : 0;
  }
};

/// Softmax of a row by a warp, and its entropy in nats, the same in all lanes. `values` is shared, [experts].
MOE_DEVICE double softmax(const float *logits, int64_t experts, float *values, float *probs) {
  constexpr float log2e = 0x1.715476p0f;
  const int64_t lane = laneIndex();
  float shift = -INFINITY;
  for (int64_t e = lane; e < experts; e += warpSize)
    shift = larger(shift, logits[e]);
  shift = warpLargest(shift);
  for (int64_t e = lane; e < experts; e += warpSize) {
    const float exponent = (logits[e] - shift) * log2e;
    values[e] = exponent < -126.0f ? 0.0f : exp2Exactly(exponent);
  }
  warpBarrier();
  float sum = 0.0f;
  if (lane < 4)
    for (int64_t e = lane; e < experts; e += 4)
      sum += values[e];
  sum += warpShuffleXor(sum, 1);
  sum += warpShuffleXor(sum, 2);
  const float total = warpShuffle(sum, 0), logTotal = std::log(total);
  const float floor = std::log(FLT_EPSILON), ceiling = std::log(1.0f - FLT_EPSILON);
  double entropy = 0.0;
  for (int64_t e = lane; e < experts; e += warpSize) {
    const float p = values[e] / total;
    probs[e] = p;
    const float logarithm = logits[e] - shift - logTotal;
    entropy -= double(p) * double(smaller(larger(logarithm, floor), ceiling));
  }
  // What each lane has read of `values` is in its entropy: nobody overwrites them before all have met in this sum.
  return warpSum(entropy);
}

MOE_KERNEL(kThreads) void routeRows(RouteShape shape, RouteForwardPointers p, double *partial) {
  const int64_t S = shape.tokens, E = shape.experts, K = shape.topK;
  const auto blocks = static_cast<uint32_t>(divideUp(S, kRouteRowsPerBlock));
  const int64_t group = blockIndex() / blocks, firstRow = blockIndex() % blocks * kRouteRowsPerBlock;
  const int64_t rows = smaller(kRouteRowsPerBlock, S - firstRow), lane = laneIndex();
  auto *entropies = sharedMemory<double>();
  float *values = reinterpret_cast<float *>(entropies + kWarps) + warpIndex() * E;

  double entropy = 0.0;
  const int64_t end = smaller((warpIndex() + 1) * kRowsPerWarp, rows);
  for (int64_t i = warpIndex() * kRowsPerWarp; i < end; ++i) {
    const int64_t row = group * S + firstRow + i;
    const float *logits = p.logits + row * E;
    float *probs = p.probs + row * E;
    entropy += softmax(logits, E, values, probs);

    Largest first;
    for (int64_t e = lane; e < E; e += warpSize)
      first.consider(probs[e], static_cast<int32_t>(e));
    const int32_t expert = first.ofWarp();
    if (lane == 0)
      p.expert[row * K] = expert;
    if (K == 1)
      continue;
    Largest second;
    for (int64_t e = lane; e < E; e += warpSize)
      if (e != expert)
        second.consider(logits[e] + (shape.policy == cpu::RoutePolicy::Sampling ? p.noise[row * E + e] : 0.0f),
                        static_cast<int32_t>(e));
    const int32_t other = second.ofWarp();
    if (lane == 0)
      p.expert[row * K + 1] = other;
  }
  if (lane == 0)
    entropies[warpIndex()] = entropy;
  barrier();

  double *sums = partial + int64_t{blockIndex()} * (E + 1);
  for (int64_t e = threadIndex(); e <= E; e += kThreads) {
    double sum = 0.0;
    if (e < E)
      for (int64_t i = 0; i < rows; ++i)
        sum += p.probs[(group * S + firstRow + i) * E + e];
    else
      for (uint32_t warp = 0; warp < kWarps; ++warp)
        sum += entropies[warp];
    sums[e] = sum;
  }
}

/// Each thread counts the rows of the group that come before its own.
MOE_KERNEL(kThreads) void routeOrder(RouteShape shape, RouteForwardPointers p, int32_t *order) {
  const int64_t S = shape.tokens;
  const auto blocks = static_cast<uint32_t>(divideUp(S, int64_t{kThreads}));
  const int64_t group = blockIndex() / blocks, row = int64_t{blockIndex() % blocks} * kThreads + threadIndex();
  auto *keys = sharedMemory<uint64_t>();
  // By descending probability, then ascending row: the bits of floats >= 0 are ordered as they are.
  auto key = [&](int64_t r) {
    const int64_t at = group * S + r;
    return uint64_t{~bitsOf(p.probs[at * shape.experts + p.expert[at * shape.topK]])} << 32 | static_cast<uint64_t>(r);
  };
  const uint64_t mine = row < S ? key(row) : 0;
  int32_t rank = 0;
  for (int64_t begin = 0; begin < S; begin += kThreads) {
    if (begin + threadIndex() < S)
      keys[threadIndex()] = key(begin + threadIndex());
    barrier();
    const int64_t count = smaller(int64_t{kThreads}, S - begin);
    for (int64_t i = 0; i < count; ++i)
      rank += keys[i] < mine;
    barrier();
  }
  if (row < S)
    order[group * S + rank] = static_cast<int32_t>(row);
}

} // namespace

cudaError_t launchRouteRows(const RouteShape &shape, const RouteForwardPointers &pointers, const RouteScratch &scratch,
                            cudaStream_t stream) {
  const int64_t blocks = shape.groups * divideUp(shape.tokens, kRouteRowsPerBlock);
  return launch<routeRows>(
      {.blocks = static_cast<uint32_t>(blocks),
       .threads = kThreads,
       .sharedBytes = kWarps * (sizeof(double) + sizeof(float) * static_cast<size_t>(shape.experts))},
      stream, shape, pointers, scratch.partial);
}

cudaError_t launchRouteOrder(const RouteShape &shape, const RouteForwardPointers &pointers, const RouteScratch &scratch,
                             cudaStream_t stream) {
  const int64_t blocks = shape.groups * divideUp(shape.tokens, int64_t{kThreads});
  return launch<routeOrder>(
      {.blocks = static_cast<uint32_t>(blocks), .threads = kThreads, .sharedBytes = kThreads * sizeof(uint64_t)},
      stream, shape, pointers, scratch.order);
}

} // namespace moe::cuda
