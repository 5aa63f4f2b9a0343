//===- RouteReference.cpp -----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/RouteReference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moe::test {

using namespace moe::cpu;

namespace {

constexpr double eps = std::numeric_limits<float>::epsilon();
using Matrix = std::vector<std::vector<double>>;

Matrix zeros(size_t rows, size_t columns) {
  return Matrix(rows, std::vector<double>(columns, 0));
}

std::vector<double> softmaxRow(const double *logits, size_t experts) {
  const double largest = *std::max_element(logits, logits + experts);
  std::vector<double> p(experts);
  double sum = 0;
  for (size_t e = 0; e < experts; ++e)
    sum += p[e] = std::exp(logits[e] - largest);
  for (double &value : p)
    value /= sum;
  return p;
}

double total(const Matrix &m) {
  double sum = 0;
  for (const auto &row : m)
    sum = std::accumulate(row.begin(), row.end(), sum);
  return sum;
}

void histogramMetrics(const std::vector<int> &choices, size_t experts, double *out) {
  std::vector<double> share(experts, 0);
  for (int choice : choices)
    share[size_t(choice)] += 100.0 / double(choices.size());
  out[2] = double(std::count(share.begin(), share.end(), 0.0));
  std::sort(share.begin(), share.end(), std::greater<>());
  const size_t k = size_t(std::max(std::ceil(0.2 * double(experts)), 1.0));
  out[0] = std::accumulate(share.begin(), share.begin() + int64_t(k), 0.0);
  out[1] = std::accumulate(share.end() - int64_t(k), share.end(), 0.0);
}

/// The weights of one row given which choices survive; p are its probabilities.
std::array<double, 2> rowWeights(const RouteShape &shape, const std::vector<double> &p, std::array<int, 2> expert,
                                 std::array<bool, 2> kept) {
  if (shape.topK == 1)
    return {kept[0] ? p[size_t(expert[0])] : 0, 0};
  double g[2] = {p[size_t(expert[0])], p[size_t(expert[1])]};
  auto normalize = [&] {
    const double d = std::max(g[0] + g[1], eps);
    g[0] /= d;
    g[1] /= d;
  };
  if (shape.normalizeBeforeDropping)
    normalize();
  for (int i = 0; i < 2; ++i)
    g[i] = kept[size_t(i)] ? g[i] : 0;
  if (!shape.normalizeBeforeDropping)
    normalize();
  return {g[0], g[1]};
}

} // namespace

DenseRoute denseRoute(const RouteShape &shape, const RouteInputs &inputs, int64_t group) {
  const size_t S = size_t(shape.tokens), E = size_t(shape.experts), C = size_t(shape.capacity);
  const size_t row0 = size_t(group) * S;
  DenseRoute r;
  Matrix m[2] = {zeros(S, E), zeros(S, E)};
  std::vector<int> choices[2];
  for (size_t s = 0; s < S; ++s) {
    std::vector<double> z(E);
    for (size_t e = 0; e < E; ++e)
      z[e] = inputs.logits[(row0 + s) * E + e];
    r.probs.push_back(softmaxRow(z.data(), E));
    const auto &p = r.probs.back();
    for (double value : p)
      r.metrics[0] -= value * std::log(std::clamp(value, eps, 1 - eps)) / double(S);
    const size_t i1 = size_t(std::max_element(p.begin(), p.end()) - p.begin());
    if (shape.policy == RoutePolicy::Sampling)
      for (size_t e = 0; e < E; ++e)
        z[e] += inputs.noise[(row0 + s) * E + e];
    z[i1] = -std::numeric_limits<double>::infinity();
    const size_t i2 = size_t(std::max_element(z.begin(), z.end()) - z.begin());
    r.expert.push_back({int(i1), int(i2)});
    choices[0].push_back(int(i1));
    choices[1].push_back(int(i2));
    const bool padding = !inputs.mask.empty() && inputs.mask[row0 + s] != 0;
    m[0][s][i1] = padding ? 0 : 1;
    bool second = shape.topK == 2 && !padding;
    if (shape.policy == RoutePolicy::Random && shape.topK == 2) {
      double g2 = p[i2];
      if (shape.normalizeBeforeDropping)
        g2 /= std::max(p[i1] + p[i2], eps);
      second = second && 2 * g2 > double(inputs.noise[row0 + s]);
    }
    m[1][s][i2] = second ? 1 : 0;
  }
  std::vector<size_t> order(S);
  std::iota(order.begin(), order.end(), 0);
  if (shape.batchPrioritized)
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const float first = float(*std::max_element(r.probs[a].begin(), r.probs[a].end()));
      const float second = float(*std::max_element(r.probs[b].begin(), r.probs[b].end()));
      return first != second ? first > second : a < b;
    });
  Matrix loc[2] = {zeros(S, E), zeros(S, E)};
  for (size_t e = 0; e < E; ++e) {
    double count = 0;
    for (int choice = 0; choice < 2; ++choice)
      for (size_t s : order) {
        loc[choice][s][e] = count;
        count += m[choice][s][e];
      }
    r.firstFraction.push_back(0);
    double me = 0;
    for (size_t s = 0; s < S; ++s) {
      r.firstFraction[e] += m[0][s][e] / double(S);
      me += r.probs[s][e] / double(S);
    }
    r.aux += double(E) * me * r.firstFraction[e];
  }
  histogramMetrics(choices[0], E, &r.metrics[3]);
  if (shape.topK == 2)
    histogramMetrics(choices[1], E, &r.metrics[6]);
  r.slot.assign(S, {-1, -1});
  r.combine.assign(S, zeros(E, C));
  double over[2] = {0, 0};
  for (size_t s = 0; s < S; ++s) {
    std::array<bool, 2> kept{};
    for (size_t choice = 0; choice < 2; ++choice) {
      const size_t e = size_t(r.expert[s][choice]);
      if (m[choice][s][e] == 0)
        continue;
      kept[choice] = loc[choice][s][e] < double(C);
      over[choice] += kept[choice] ? 0 : 1;
      if (kept[choice])
        r.slot[s][choice] = int64_t(loc[choice][s][e]);
    }
    r.weight.push_back(rowWeights(shape, r.probs[s], r.expert[s], kept));
    for (size_t choice = 0; choice < 2; ++choice)
      if (kept[choice])
        r.combine[s][size_t(r.expert[s][choice])][size_t(r.slot[s][choice])] += r.weight[s][choice];
  }
  if (shape.topK == 2)
    for (size_t choice = 0; choice < 2; ++choice)
      r.metrics[1 + choice] = 100 * over[choice] / total(m[choice]);
  return r;
}

double denseLoss(const RouteShape &shape, const DenseRoute &route, const std::vector<double> &logits,
                 const std::vector<double> &dweight, double daux) {
  const size_t S = size_t(shape.tokens), E = size_t(shape.experts), K = size_t(shape.topK);
  double sum = 0;
  for (size_t s = 0; s < S; ++s) {
    const std::vector<double> p = softmaxRow(logits.data() + s * E, E);
    const auto w = rowWeights(shape, p, route.expert[s], {route.slot[s][0] >= 0, route.slot[s][1] >= 0});
    for (size_t choice = 0; choice < K; ++choice)
      sum += w[choice] * dweight[s * K + choice];
    for (size_t e = 0; e < E; ++e)
      sum += daux * double(E) / double(S) * p[e] * route.firstFraction[e];
  }
  return sum;
}

RouteResults runRoute(const RouteShape &shape, const RouteInputs &inputs, const std::vector<float> &dweight,
                      const std::vector<float> &daux, int64_t rowPiece) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const int64_t rows = shape.groups * shape.tokens;
  const size_t choices = size_t(rows * shape.topK), cells = size_t(rows * shape.experts), G = size_t(shape.groups);
  RouteResults r;
  r.expert.assign(choices, 0x7F7F7F7F);
  r.slot.assign(choices, 0x7F7F7F7F);
  r.token.assign(size_t(shape.experts * shape.groups * shape.capacity), 0x7F7F7F7F);
  r.weight.assign(choices, nan);
  r.aux.assign(G, nan);
  r.probs.assign(cells, nan);
  r.firstFraction.assign(G * size_t(shape.experts), nan);
  r.metrics.assign(G * RouteMetrics, nan);
  r.dlogits.assign(cells, nan);
  std::vector<uint64_t> scratch((routeScratchBytes(shape) + 7) / 8, ~uint64_t{0});
  const RouteForwardPointers forward{.logits = inputs.logits.data(),
                                     .mask = inputs.mask.empty() ? nullptr : inputs.mask.data(),
                                     .noise = inputs.noise.empty() ? nullptr : inputs.noise.data(),
                                     .expert = r.expert.data(),
                                     .slot = r.slot.data(),
                                     .weight = r.weight.data(),
                                     .token = r.token.data(),
                                     .aux = r.aux.data(),
                                     .probs = r.probs.data(),
                                     .firstFraction = r.firstFraction.data(),
                                     .metrics = r.metrics.data(),
                                     .scratch = scratch.data()};
  const RouteBackwardPointers backward{.dweight = dweight.data(),
                                       .daux = daux.data(),
                                       .probs = r.probs.data(),
                                       .expert = r.expert.data(),
                                       .slot = r.slot.data(),
                                       .firstFraction = r.firstFraction.data(),
                                       .dlogits = r.dlogits.data()};
  const int64_t last = (rows - 1) / rowPiece * rowPiece;
  for (int64_t begin = last; begin >= 0; begin -= rowPiece)
    routeRows(shape, forward, begin, std::min(begin + rowPiece, rows));
  for (int64_t group = shape.groups - 1; group >= 0; --group)
    routeGroups(shape, forward, group, group + 1);
  for (int64_t begin = last; begin >= 0; begin -= rowPiece)
    routeBackward(shape, backward, begin, std::min(begin + rowPiece, rows));
  return r;
}

} // namespace moe::test
