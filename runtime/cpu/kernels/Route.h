//===- Route.h - Capacity routing of tokens to experts ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The top-1 and top-2 gates of GShard (Lepikhin et al., 2020) with the conventions of fairseq's `moe` branch, in index
// form: nothing of size tokens x experts x capacity is stored. Per group of S tokens, with p = softmax(logits):
//
//   first choice  i1 = argmax p; second choice i2 = argmax of logits (+ noise, policy Sampling) without i1; ties go to
//   the lowest expert. Policy Random keeps i2 iff 2 * g2 > uniform. Masked rows choose nothing.
//   A choice of expert e gets slot = number of earlier rows with the same choice of e (order: rows, or descending
//   p[i1], stable, if batch-prioritised); second choices start after *all* first choices of e. slot >= C: dropped.
//   Weights: top-1 p[i1]; top-2 g = p[i] / max(p[i1] + p[i2], eps), before dropping or over the survivors after it
//   (then a single survivor weighs 1). eps = FLT_EPSILON.
//   aux = E * sum_e mean_s(p[s,e]) * mean_s(first[s,e]), first = the mask of first choices before dropping.
//
// Routing has two phases, both divisible among threads without changing a bit: rows first, then groups.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ROUTE_H
#define MOEC_RUNTIME_CPU_KERNELS_ROUTE_H

#include <cstdint>

namespace moe::cpu {

/// How the second expert is chosen.
enum class RoutePolicy { All = 0, Sampling = 1, Random = 2 };

/// Sizes and options; the fields of message `Route` in runtime/plan/plan.proto.
struct RouteShape {
  int64_t groups = 0;   ///< G
  int64_t tokens = 0;   ///< S, per group
  int64_t experts = 0;  ///< E
  int64_t capacity = 0; ///< C, slots per group and expert
  int64_t topK = 2;     ///< K: 1 or 2
  RoutePolicy policy = RoutePolicy::All;
  bool normalizeBeforeDropping = false;
  bool batchPrioritized = false;
};

/// Order of the entries of `metrics`, per group (percentages are of 100).
enum RouteMetric {
  EntropyGating = 0,        ///< mean over rows of -sum p ln p, in nats; p in the logarithm clamped to [eps, 1 - eps]
  OverflowExpert1 = 1,      ///< dropped first choices in percent of first choices; NaN without any
  OverflowExpert2 = 2,      ///< the same of second choices left after policy Random
  Expert1BalanceTop = 3,    ///< share of first choices of the ceil(E/5) busiest experts, in percent of S
  Expert1BalanceBottom = 4, ///< of the idlest ones
  UnusedExpert1Count = 5,   ///< experts that are nobody's first choice
  Expert2BalanceTop = 6,
  Expert2BalanceBottom = 7,
  UnusedExpert2Count = 8,
  RouteMetrics = 9
};
// Balance and unused counts include masked, rejected and dropped choices. With top-1, both overflows and everything of
// expert 2 are 0.

struct RouteForwardPointers {
  const float *logits = nullptr;  ///< [G, S, E]
  const uint8_t *mask = nullptr;  ///< [G, S], 1 = padding; null = no padding
  const float *noise = nullptr;   ///< Sampling: [G, S, E] added to the logits; Random: [G, S] uniform in [0, 1)
  int32_t *expert = nullptr;      ///< [G, S, K], in [0, E)
  int32_t *slot = nullptr;        ///< [G, S, K], in [0, C), or -1: dropped, rejected or masked
  float *weight = nullptr;        ///< [G, S, K], 0 where slot = -1
  int32_t *token = nullptr;       ///< [E, G, C]: s * K + choice of the row in the slot, -1 = empty
  float *aux = nullptr;           ///< [G]
  float *probs = nullptr;         ///< [G, S, E]
  float *firstFraction = nullptr; ///< [G, E]: mean of the first-choice mask
  float *metrics = nullptr;       ///< [G, 9], see RouteMetric
  void *scratch = nullptr;        ///< routeScratchBytes(shape), aligned to 8 bytes
};

struct RouteBackwardPointers {
  const float *dweight = nullptr; ///< [G, S, K]
  const float *daux = nullptr;    ///< [G]
  const float *probs = nullptr;
  const int32_t *expert = nullptr;
  const int32_t *slot = nullptr;
  const float *firstFraction = nullptr;
  float *dlogits = nullptr; ///< [G, S, E], overwritten
};

/// Scratch of the forward; the backward needs none. Independent of the number of threads.
uint64_t routeScratchBytes(const RouteShape &shape);

/// Phase 1: rows [begin, end) of the G * S rows: probs, expert, and in scratch what phase 2 wants of a row.
void routeRows(const RouteShape &shape, const RouteForwardPointers &pointers, int64_t begin, int64_t end);

/// Phase 2, after all of phase 1: groups [begin, end): slot, weight, token, aux, firstFraction, metrics.
void routeGroups(const RouteShape &shape, const RouteForwardPointers &pointers, int64_t begin, int64_t end);

/// Gradient of sum(weight * dweight) + sum(aux * daux) for rows [begin, end) of the G * S rows. Choices, slots and
/// firstFraction are constants. Exactly zero from weights of dropped choices and, if normalised after dropping, from a
/// single survivor.
void routeBackward(const RouteShape &shape, const RouteBackwardPointers &pointers, int64_t begin, int64_t end);

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ROUTE_H
