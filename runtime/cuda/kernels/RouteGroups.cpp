//===- RouteGroups.cpp - Slots, weights and metrics of a group ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A block for each group. Its rows, in the order in which they are placed, are cut into segments, one for a warp. Each
// warp counts the choices of its segment; sums over the segments before say where it begins in each expert; then each
// warp walks its segment again, 32 rows at a time, and gives them slots.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Gpu.h"
#include "runtime/cuda/kernels/RouteKernels.h"

#include <cfloat>

namespace moe::cuda {
namespace {

using namespace gpu;
using namespace cpu; // RouteMetric, RoutePolicy

constexpr uint32_t kThreads = 1024;
constexpr uint32_t kWarps = kThreads / warpSize;
/// Shared memory for the counts of all segments.
constexpr int64_t kCounters = 5120;

/// Warps that walk segments: all of them, unless experts are so many that their counts would not fit.
int64_t segmentsFor(int64_t experts) {
  return smaller(int64_t{kWarps}, larger(kCounters / experts, int64_t{1}));
}

struct Arguments {
  RouteShape shape;
  RouteForwardPointers p;
  RouteScratch scratch;
  int64_t segments;
};

/// Shared memory; E entries each, `counts` segments * E.
struct GroupShared {
  double *terms;     ///< of aux
  int32_t *counts;   ///< choices of a segment, then slots that are taken before it
  int32_t *chosen;   ///< rows that chose the expert, masked ones included
  int32_t *sorted;   ///< `chosen` in ascending order
  int32_t *first;    ///< accepted first choices
  int32_t *taken;    ///< all accepted choices so far, dropped ones included
  int32_t *overflow; ///< dropped ones of the present choice

  MOE_BOTH GroupShared(void *memory, int64_t experts, int64_t segments) {
    terms = static_cast<double *>(memory);
    counts = reinterpret_cast<int32_t *>(terms + experts);
    chosen = counts + segments * experts;
    sorted = chosen + experts;
    first = sorted + experts;
    taken = first + experts;
    overflow = taken + experts;
  }
  static size_t bytes(int64_t experts, int64_t segments) {
    return static_cast<size_t>(experts) * (sizeof(double) + sizeof(int32_t) * static_cast<size_t>(segments + 5));
  }
};

/// One group, its pointers already at the group.
struct Group {
  const RouteShape &shape;
  const float *probs;
  const uint8_t *mask;
  const float *uniform; ///< policy Random only
  const int32_t *expert;
  const int32_t *order; ///< null: as they are numbered
  int32_t *slot;
  float *weight;
  int32_t *token; ///< [E] rows of `tokenStride`
  int64_t tokenStride;

  MOE_DEVICE float prob(int64_t row, int64_t choice) const {
    return probs[row * shape.experts + expert[row * shape.topK + choice]];
  }
  /// max(p1 + p2, eps) of a row.
  MOE_DEVICE float sumBoth(int64_t row) const { return larger(prob(row, 0) + prob(row, 1), FLT_EPSILON); }

  MOE_DEVICE bool accepted(int64_t row, int64_t choice) const {
    if (mask && mask[row])
      return false;
    if (choice == 0 || shape.policy != RoutePolicy::Random)
      return true;
    const float g = shape.normalizeBeforeDropping ? prob(row, 1) / sumBoth(row) : prob(row, 1);
    return 2.0f * g > uniform[row];
  }

  MOE_DEVICE void weigh(int64_t row) const {
    const int64_t K = shape.topK;
    float g[2] = {0.0f, 0.0f};
    MOE_UNROLL
    for (int choice = 0; choice < 2; ++choice)
      if (choice < K && slot[row * K + choice] >= 0)
        g[choice] = prob(row, choice);
    if (K == 1) {
      weight[row] = g[0];
      return;
    }
    const float sum = shape.normalizeBeforeDropping ? sumBoth(row) : larger(g[0] + g[1], FLT_EPSILON);
    weight[row * 2] = g[0] / sum;
    weight[row * 2 + 1] = g[1] / sum;
  }
};

/// Positions [begin, end) of a warp, a multiple of warpSize apart.
struct Segment {
  int64_t begin = 0, end = 0;

  MOE_DEVICE Segment(int64_t tokens, int64_t segments) {
    const int64_t length = divideUp(divideUp(tokens, segments), int64_t{warpSize}) * warpSize;
    if (warpIndex() < segments) {
      begin = smaller(warpIndex() * length, tokens);
      end = smaller(begin + length, tokens);
    }
  }
};

/// Gives slots to the accepted rows of one choice. Returns without a barrier after the last of them.
MOE_DEVICE void place(const Group &group, const GroupShared &shared, int64_t choice, int64_t segments) {
  const RouteShape &shape = group.shape;
  const int64_t S = shape.tokens, E = shape.experts, K = shape.topK, thread = threadIndex();
  const Segment segment(S, segments);
  int32_t *counts = shared.counts + warpIndex() * E;
  auto rowAt = [&](int64_t position) { return group.order ? int64_t{group.order[position]} : position; };

  for (int64_t i = thread; i < segments * E; i += kThreads)
    shared.counts[i] = 0;
  for (int64_t e = thread; e < E; e += kThreads)
    shared.chosen[e] = 0;
  barrier();
  for (int64_t position = segment.begin + laneIndex(); position < segment.end; position += warpSize) {
    const int64_t row = rowAt(position);
    const int32_t e = group.expert[row * K + choice];
    atomicAdd(shared.chosen + e, 1);
    if (group.accepted(row, choice))
      atomicAdd(counts + e, 1);
  }
  barrier();
  for (int64_t e = thread; e < E; e += kThreads) {
    const auto capacity = static_cast<int32_t>(shape.capacity);
    const int32_t before = choice == 0 ? 0 : shared.taken[e];
    int32_t taken = before;
    for (int64_t s = 0; s < segments; ++s) {
      const int32_t count = shared.counts[s * E + e];
      shared.counts[s * E + e] = taken;
      taken += count;
    }
    shared.taken[e] = taken;
    if (choice == 0)
      shared.first[e] = taken;
    shared.overflow[e] = larger(taken - larger(before, capacity), 0);
  }
  barrier();
  for (int64_t start = segment.begin; start < segment.end; start += warpSize) {
    const int64_t position = start + laneIndex();
    bool accepted = false;
    int64_t at = 0;
    int32_t e = 0;
    if (position < segment.end) {
      const int64_t row = rowAt(position);
      at = row * K + choice;
      e = group.expert[at];
      accepted = group.accepted(row, choice);
    }
    const uint32_t same = warpMatch(accepted ? static_cast<uint32_t>(e) : ~0u);
    const uint32_t leader = lowestBit(same);
    int32_t base = 0;
    if (accepted && laneIndex() == leader)
      base = atomicAdd(counts + e, countBits(same));
    const int32_t location = warpShuffle(base, leader) + countBits(same & ((1u << laneIndex()) - 1));
    const bool kept = accepted && location < shape.capacity;
    if (position < segment.end)
      group.slot[at] = kept ? location : -1;
    if (kept)
      group.token[e * group.tokenStride + location] = static_cast<int32_t>(at);
  }
}

/// Sums of the ceil(E / 5) largest and smallest shares of a histogram, in percent of `tokens`, and the number of empty
/// bins. The reference adds the smallest normal number to each share; so do we.
MOE_DEVICE void balance(const int32_t *sorted, int64_t experts, int64_t tokens, float *metrics) {
  double low = 0.0, high = 0.0;
  for (int64_t i = 0; i < (experts + 4) / 5; ++i) {
    low += 100.0 * sorted[i] / double(tokens) + double(FLT_MIN);
    high += 100.0 * sorted[experts - 1 - i] / double(tokens) + double(FLT_MIN);
  }
  int64_t unused = 0;
  while (unused < experts && sorted[unused] == 0)
    ++unused;
  metrics[0] = float(high);
  metrics[1] = float(low);
  metrics[2] = float(unused);
}

/// Metrics of one choice; slots are seen by all threads afterwards.
MOE_DEVICE void measure(const GroupShared &shared, const RouteShape &shape, int64_t choice, float *metrics) {
  const int64_t E = shape.experts;
  for (int64_t e = threadIndex(); e < E; e += kThreads) {
    const int32_t count = shared.chosen[e];
    int64_t rank = 0;
    for (int64_t other = 0; other < E; ++other)
      rank += shared.chosen[other] < count || (shared.chosen[other] == count && other < e);
    shared.sorted[rank] = count;
  }
  barrier();
  if (threadIndex() == 0) {
    balance(shared.sorted, E, shape.tokens, metrics + (choice == 0 ? Expert1BalanceTop : Expert2BalanceTop));
    int64_t dropped = 0, all = 0;
    for (int64_t e = 0; e < E; ++e) {
      dropped += shared.overflow[e];
      all += shared.taken[e] - (choice == 0 ? 0 : shared.first[e]);
    }
    if (shape.topK == 2)
      metrics[choice == 0 ? OverflowExpert1 : OverflowExpert2] = float(100.0 * double(dropped) / double(all));
  }
}

MOE_KERNEL(kThreads) void routeGroups(Arguments a) {
  const RouteShape &shape = a.shape;
  const int64_t S = shape.tokens, E = shape.experts, K = shape.topK, C = shape.capacity;
  const int64_t index = blockIndex(), thread = threadIndex();
  const GroupShared shared(sharedMemory<double>(), E, a.segments);
  const Group group{.shape = shape,
                    .probs = a.p.probs + index * S * E,
                    .mask = a.p.mask ? a.p.mask + index * S : nullptr,
                    .uniform = shape.policy == RoutePolicy::Random ? a.p.noise + index * S : nullptr,
                    .expert = a.p.expert + index * S * K,
                    .order = shape.batchPrioritized ? a.scratch.order + index * S : nullptr,
                    .slot = a.p.slot + index * S * K,
                    .weight = a.p.weight + index * S * K,
                    .token = a.p.token + index * C,
                    .tokenStride = shape.groups * C};
  float *metrics = a.p.metrics + index * RouteMetrics;

  for (int64_t i = thread; i < E * C; i += kThreads)
    group.token[i / C * group.tokenStride + i % C] = -1;
  if (thread < RouteMetrics)
    metrics[thread] = 0.0f;
  // The first barrier of `place` comes before any of this is written again.
  for (int64_t choice = 0; choice < K; ++choice) {
    place(group, shared, choice, a.segments);
    measure(shared, shape, choice, metrics);
  }
  for (int64_t row = thread; row < S; row += kThreads)
    group.weigh(row);

  const int64_t blocks = divideUp(S, kRouteRowsPerBlock);
  const double *partial = a.scratch.partial + index * blocks * (E + 1);
  auto sumOf = [&](int64_t column) {
    double sum = 0.0;
    for (int64_t block = 0; block < blocks; ++block)
      sum += partial[block * (E + 1) + column];
    return sum;
  };
  for (int64_t e = thread; e < E; e += kThreads) {
    const double fraction = double(shared.first[e]) / double(S);
    a.p.firstFraction[index * E + e] = float(fraction);
    shared.terms[e] = sumOf(e) / double(S) * fraction;
  }
  barrier();
  if (thread == 0) {
    double aux = 0.0;
    for (int64_t e = 0; e < E; ++e)
      aux += shared.terms[e];
    a.p.aux[index] = float(aux * double(E));
    metrics[EntropyGating] = float(sumOf(E) / double(S));
  }
}

} // namespace

cudaError_t launchRouteGroups(const RouteShape &shape, const RouteForwardPointers &pointers,
                              const RouteScratch &scratch, cudaStream_t stream) {
  const int64_t segments = segmentsFor(shape.experts);
  return launch<routeGroups>({.blocks = static_cast<uint32_t>(shape.groups),
                              .threads = kThreads,
                              .sharedBytes = GroupShared::bytes(shape.experts, segments)},
                             stream, Arguments{shape, pointers, scratch, segments});
}

} // namespace moe::cuda
