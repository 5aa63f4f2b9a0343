//===- RouteReference.h - Capacity routing in float64, dense ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_CPU_KERNELS_ROUTEREFERENCE_H
#define MOEC_TEST_RUNTIME_CPU_KERNELS_ROUTEREFERENCE_H

#include "runtime/cpu/kernels/Route.h"

#include <array>
#include <cstdint>
#include <vector>

namespace moe::test {

/// Inputs of all groups, laid out as in Route.h. Empty vectors: not given.
struct RouteInputs {
  std::vector<float> logits;
  std::vector<uint8_t> mask;
  std::vector<float> noise;
};

/// One group by the dense formulas of GShard: one-hot masks [S][E], exclusive running counts, combine weights
/// [S][E][C].
struct DenseRoute {
  std::vector<std::vector<double>> probs;                ///< [S][E]
  std::vector<std::array<int, 2>> expert;                ///< [S]
  std::vector<std::array<int64_t, 2>> slot;              ///< [S], -1 = none
  std::vector<std::array<double, 2>> weight;             ///< [S]
  std::vector<std::vector<std::vector<double>>> combine; ///< [S][E][C]
  std::vector<double> firstFraction;                     ///< [E]
  double aux = 0;
  std::array<double, cpu::RouteMetrics> metrics{};
};

DenseRoute denseRoute(const cpu::RouteShape &shape, const RouteInputs &inputs, int64_t group);

/// sum(weight * dweight) + aux * daux of one group as a function of its logits, with all choices of `route` fixed.
double denseLoss(const cpu::RouteShape &shape, const DenseRoute &route, const std::vector<double> &logits,
                 const std::vector<double> &dweight, double daux);

/// What the kernels computed; laid out as in Route.h.
struct RouteResults {
  std::vector<int32_t> expert, slot, token;
  std::vector<float> weight, aux, probs, firstFraction, metrics, dlogits;
};

/// Runs rows, groups and backward in pieces of `rowPiece` rows and single groups, last piece first. Results are filled
/// with garbage before.
RouteResults runRoute(const cpu::RouteShape &shape, const RouteInputs &inputs, const std::vector<float> &dweight,
                      const std::vector<float> &daux, int64_t rowPiece);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_CPU_KERNELS_ROUTEREFERENCE_H
