//===- Route.cpp --------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A few operations per logit: only the softmax is worth vectors. Sums over rows are kept in double, which costs nothing
// here.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/Route.h"

#include "runtime/cpu/kernels/RouteGradient.h"
#include "runtime/cpu/kernels/Vector.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>
#include <span>

namespace moe::cpu {
namespace {

/// Working memory of the forward; an amount per group, so that groups are independent.
struct RouteScratch {
  double *rowEntropy; ///< [G, S]
  double *probSum;    ///< [G, E]
  uint64_t *order;    ///< [G, S], only if batch-prioritised
  int32_t *next;      ///< [G, E], next free slot
  int32_t *firsts;    ///< [G, E], first choices that count
  int32_t *chosen;    ///< [G, E], a histogram

  RouteScratch(const RouteShape &shape, void *scratch) {
    const int64_t rows = shape.groups * shape.tokens, cells = shape.groups * shape.experts;
    rowEntropy = static_cast<double *>(scratch);
    probSum = rowEntropy + rows;
    order = reinterpret_cast<uint64_t *>(probSum + cells);
    next = reinterpret_cast<int32_t *>(order + (shape.batchPrioritized ? rows : 0));
    firsts = next + cells;
    chosen = firsts + cells;
  }
};

/// Vectors of four whatever the processor, so that routing is the same on all of them.
static_assert(lanes == 4, "Route.cpp is compiled for the baseline");

/// values[at, at + 4) of `count`; `fill` beyond the end.
Vec loadPart(const float *values, int64_t at, int64_t count, float fill) {
  if (at + lanes <= count)
    return load(values + at);
  Vec result = broadcast(fill);
  for (int64_t lane = 0; lane < count - at; ++lane)
    result[lane] = values[at + lane];
  return result;
}

void storePart(float *values, int64_t at, int64_t count, Vec vector) {
  if (at + lanes <= count)
    return store(values + at, vector);
  for (int64_t lane = 0; lane < count - at; ++lane)
    values[at + lane] = vector[lane];
}

float sumLanes(Vec v) {
  return (v[0] + v[1]) + (v[2] + v[3]);
}
float largestLane(Vec v) {
  return std::max(std::max(v[0], v[1]), std::max(v[2], v[3]));
}

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Softmax of a row, and its entropy in nats. With s = logit - largest, ln p = s - ln sum: no logarithm per element.
double softmax(const float *logits, int64_t experts, float *probs) {
  constexpr float log2e = 0x1.715476p0f;
  Vec largest = broadcast(-infinity);
  for (int64_t e = 0; e < experts; e += lanes)
    largest = larger(loadPart(logits, e, experts, -infinity), largest);
  const Vec shift = broadcast(largestLane(largest));
  Vec sum = {};
  for (int64_t e = 0; e < experts; e += lanes) {
    Vec exponent = (loadPart(logits, e, experts, -infinity) - shift) * log2e;
    Vec value = exponent < -126.0f ? Vec{} : exp2(exponent);
    sum += value;
    storePart(probs, e, experts, value);
  }
  const float total = sumLanes(sum), logTotal = std::log(total);
  const Vec floor = broadcast(std::log(FLT_EPSILON)), ceiling = broadcast(std::log(1.0f - FLT_EPSILON));
  Vec entropy = {};
  for (int64_t e = 0; e < experts; e += lanes) {
    Vec p = loadPart(probs, e, experts, 0.0f) / total;
    storePart(probs, e, experts, p);
    Vec logarithm = loadPart(logits, e, experts, 0.0f) - shift - logTotal;
    logarithm = larger(floor, logarithm);
    entropy -= p * (logarithm > ceiling ? ceiling : logarithm);
  }
  return double(sumLanes(entropy));
}

/// The lowest index of the largest value; 0 among NaNs.
int32_t firstChoice(const float *probs, int64_t experts) {
  Vec largest = broadcast(-infinity);
  for (int64_t e = 0; e < experts; e += lanes)
    largest = larger(loadPart(probs, e, experts, -infinity), largest);
  const float *end = probs + experts, *first = std::find(probs, end, largestLane(largest));
  return first == end ? 0 : int32_t(first - probs);
}

/// The same of logits + noise with the first choice at -inf. Expert 0 if there is nothing else (a single expert).
int32_t secondChoice(const float *logits, const float *noise, int64_t experts, int32_t first) {
  int32_t best = 0;
  float largest = -infinity;
  for (int64_t e = 0; e < experts; ++e) {
    float value = e == first ? -infinity : logits[e] + (noise ? noise[e] : 0.0f);
    if (value > largest) {
      largest = value;
      best = int32_t(e);
    }
  }
  return best;
}

/// Sums of the k = max(ceil(E / 5), 1) largest and smallest shares of a histogram, in percent of `tokens`, and the
/// number of empty bins. Sorts the histogram. The reference adds the smallest normal number to each share; so do we.
void balance(std::span<int32_t> histogram, int64_t tokens, float *top, float *bottom, float *unused) {
  std::ranges::sort(histogram);
  const size_t experts = histogram.size(), k = (experts + 4) / 5;
  auto percent = [&](int32_t count) { return 100.0 * count / double(tokens) + double(FLT_MIN); };
  double low = 0.0, high = 0.0;
  for (size_t i = 0; i < k; ++i) {
    low += percent(histogram[i]);
    high += percent(histogram[experts - 1 - i]);
  }
  *top = float(high);
  *bottom = float(low);
  *unused = float(std::ranges::count(histogram, 0));
}

/// Phase 2 of one group, its pointers already at the group.
struct GroupRouter {
  const RouteShape &shape;
  const float *probs;
  const uint8_t *mask;
  const float *uniform; ///< policy Random only
  const int32_t *expert;
  int32_t *slot;
  float *weight;
  int32_t *token; ///< [E] rows of `tokenStride`
  int64_t tokenStride;
  uint64_t *order;
  std::span<int32_t> next, firsts;
  int64_t seconds = 0;
  int64_t overflow[2] = {0, 0};

  float prob(int64_t row, int64_t choice) const {
    return probs[row * shape.experts + expert[row * shape.topK + choice]];
  }

  /// max(p1 + p2, eps) of a row.
  float sumBoth(int64_t row) const { return std::max(prob(row, 0) + prob(row, 1), FLT_EPSILON); }

  bool accepted(int64_t row, int64_t choice) const {
    if (mask && mask[row])
      return false;
    if (choice == 0 || shape.policy != RoutePolicy::Random)
      return true;
    float g = shape.normalizeBeforeDropping ? prob(row, 1) / sumBoth(row) : prob(row, 1);
    return 2.0f * g > uniform[row];
  }

  /// Rows by descending first probability, then ascending: the key of a float >= 0 is its bits.
  void sortRows() {
    for (int64_t row = 0; row < shape.tokens; ++row)
      order[row] = uint64_t(~std::bit_cast<uint32_t>(prob(row, 0))) << 32 | uint64_t(row);
    std::sort(order, order + shape.tokens);
  }

  void place(int64_t choice) {
    const int64_t K = shape.topK;
    for (int64_t position = 0; position < shape.tokens; ++position) {
      const int64_t row = shape.batchPrioritized ? int64_t(order[position] & 0xFFFFFFFF) : position;
      const int64_t at = row * K + choice;
      slot[at] = -1;
      if (!accepted(row, choice))
        continue;
      if (choice == 0)
        ++firsts[size_t(expert[at])];
      else
        ++seconds;
      const int32_t location = next[size_t(expert[at])]++;
      if (location >= shape.capacity) {
        ++overflow[choice];
        continue;
      }
      slot[at] = location;
      token[expert[at] * tokenStride + location] = int32_t(at);
    }
  }

  void weigh() {
    const int64_t K = shape.topK;
    for (int64_t row = 0; row < shape.tokens; ++row) {
      float g[2] = {0.0f, 0.0f};
      for (int64_t choice = 0; choice < K; ++choice)
        g[choice] = slot[row * K + choice] < 0 ? 0.0f : prob(row, choice);
      if (K == 2) {
        float sum = shape.normalizeBeforeDropping ? sumBoth(row) : std::max(g[0] + g[1], FLT_EPSILON);
        g[0] /= sum;
        g[1] /= sum;
      }
      for (int64_t choice = 0; choice < K; ++choice)
        weight[row * K + choice] = g[choice];
    }
  }
};

float overflowPercent(int64_t dropped, int64_t all) {
  return float(100.0 * double(dropped) / double(all));
}

void routeGroup(const RouteShape &shape, const RouteForwardPointers &p, int64_t group) {
  const int64_t S = shape.tokens, E = shape.experts, K = shape.topK, C = shape.capacity;
  RouteScratch scratch(shape, p.scratch);
  const size_t cells = size_t(E);
  GroupRouter router{.shape = shape,
                     .probs = p.probs + group * S * E,
                     .mask = p.mask ? p.mask + group * S : nullptr,
                     .uniform = shape.policy == RoutePolicy::Random ? p.noise + group * S : nullptr,
                     .expert = p.expert + group * S * K,
                     .slot = p.slot + group * S * K,
                     .weight = p.weight + group * S * K,
                     .token = p.token + group * C,
                     .tokenStride = shape.groups * C,
                     .order = scratch.order + group * S,
                     .next = {scratch.next + group * E, cells},
                     .firsts = {scratch.firsts + group * E, cells}};
  for (int64_t e = 0; e < E; ++e)
    std::fill_n(router.token + e * router.tokenStride, C, -1);
  std::ranges::fill(router.next, 0);
  std::ranges::fill(router.firsts, 0);
  if (shape.batchPrioritized)
    router.sortRows();
  // After the first choices `next` is their total, overflowing ones included: where second choices start.
  for (int64_t choice = 0; choice < K; ++choice)
    router.place(choice);
  router.weigh();

  double *probSum = scratch.probSum + group * E;
  std::fill_n(probSum, E, 0.0);
  double entropySum = 0.0;
  for (int64_t row = 0; row < S; ++row) {
    for (int64_t e = 0; e < E; ++e)
      probSum[e] += router.probs[row * E + e];
    entropySum += scratch.rowEntropy[group * S + row];
  }
  double aux = 0.0;
  int64_t firsts = 0;
  for (int64_t e = 0; e < E; ++e) {
    const double fraction = double(router.firsts[size_t(e)]) / double(S);
    p.firstFraction[group * E + e] = float(fraction);
    aux += probSum[e] / double(S) * fraction;
    firsts += router.firsts[size_t(e)];
  }
  p.aux[group] = float(aux * double(E));

  float *metrics = p.metrics + group * RouteMetrics;
  std::fill_n(metrics, int64_t{RouteMetrics}, 0.0f);
  metrics[EntropyGating] = float(entropySum / double(S));
  std::span<int32_t> histogram(scratch.chosen + group * E, cells);
  for (int64_t choice = 0; choice < K; ++choice) {
    std::ranges::fill(histogram, 0);
    for (int64_t row = 0; row < S; ++row)
      ++histogram[size_t(router.expert[row * K + choice])];
    const int at = choice == 0 ? Expert1BalanceTop : Expert2BalanceTop;
    balance(histogram, S, metrics + at, metrics + at + 1, metrics + at + 2);
  }
  if (K == 2) {
    metrics[OverflowExpert1] = overflowPercent(router.overflow[0], firsts);
    metrics[OverflowExpert2] = overflowPercent(router.overflow[1], router.seconds);
  }
}

} // namespace

uint64_t routeScratchBytes(const RouteShape &shape) {
  const uint64_t rows = uint64_t(shape.groups * shape.tokens), cells = uint64_t(shape.groups * shape.experts);
  return 8 * rows * (shape.batchPrioritized ? 2 : 1) + 8 * cells + 3 * 4 * cells;
}

void routeRows(const RouteShape &shape, const RouteForwardPointers &p, int64_t begin, int64_t end) {
  const int64_t E = shape.experts;
  RouteScratch scratch(shape, p.scratch);
  for (int64_t row = begin; row < end; ++row) {
    const float *logits = p.logits + row * E;
    float *probs = p.probs + row * E;
    scratch.rowEntropy[row] = softmax(logits, E, probs);
    int32_t *expert = p.expert + row * shape.topK;
    expert[0] = firstChoice(probs, E);
    if (shape.topK == 2)
      expert[1] =
          secondChoice(logits, shape.policy == RoutePolicy::Sampling ? p.noise + row * E : nullptr, E, expert[0]);
  }
}

void routeGroups(const RouteShape &shape, const RouteForwardPointers &pointers, int64_t begin, int64_t end) {
  for (int64_t group = begin; group < end; ++group)
    routeGroup(shape, pointers, group);
}

void routeBackward(const RouteShape &shape, const RouteBackwardPointers &p, int64_t begin, int64_t end) {
  const int64_t E = shape.experts, K = shape.topK;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t group = row / shape.tokens;
    const float *probs = p.probs + row * E, *fraction = p.firstFraction + group * E;
    const int32_t *expert = p.expert + row * K, *slot = p.slot + row * K;
    float *dlogits = p.dlogits + row * E;

    // From aux: (E / S) * daux * p[j] * (fraction[j] - sum_e p[e] * fraction[e]).
    double mean = 0.0;
    for (int64_t e = 0; e < E; ++e)
      mean += double(probs[e]) * double(fraction[e]);
    const double factor = double(p.daux[group]) * double(E) / double(shape.tokens);
    // `through` is a gradient sum_i grad[i] * (onehot[i] - p) of the weights that the softmax spreads over the row.
    float grad[2] = {0.0f, 0.0f}, through = 0.0f;
    if (K == 1) {
      if (slot[0] >= 0)
        through = grad[0] = p.dweight[row] * probs[expert[0]];
    } else {
      const float prob[2] = {probs[expert[0]], probs[expert[1]]};
      const float dw[2] = {p.dweight[row * 2], p.dweight[row * 2 + 1]};
      const bool kept[2] = {slot[0] >= 0, slot[1] >= 0};
      if (!weightGradient(prob, dw, kept, shape.normalizeBeforeDropping, grad))
        through = grad[0] + grad[1];
    }
    for (int64_t j = 0; j < E; ++j)
      dlogits[j] = float(factor * double(probs[j]) * (double(fraction[j]) - mean)) - through * probs[j];
    for (int64_t choice = 0; choice < K; ++choice)
      dlogits[expert[choice]] += grad[choice];
  }
}

} // namespace moe::cpu
