//===- RouteGradient.h - The gradient of a top-2 gate's weights --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ROUTEGRADIENT_H
#define MOEC_RUNTIME_CPU_KERNELS_ROUTEGRADIENT_H

#include <cfloat>

namespace moe::cpu {

/// d(w[0] * dw[0] + w[1] * dw[1]) / dp of the two choices of a top-2 row, times p of the choice; kept[i] = it has a
/// slot. Returns whether the two cancel, that is, whether the softmax passes them on unchanged.
constexpr bool weightGradient(const float (&prob)[2], const float (&dw)[2], const bool (&kept)[2], bool before,
                              float (&grad)[2]) {
  grad[0] = grad[1] = 0.0f;
  const float sum = (before || kept[0] ? prob[0] : 0.0f) + (before || kept[1] ? prob[1] : 0.0f);
  if (sum < FLT_EPSILON) { // the denominator is the constant eps
    for (int choice = 0; choice < 2; ++choice)
      grad[choice] = kept[choice] ? dw[choice] * (prob[choice] / FLT_EPSILON) : 0.0f;
    return false;
  }
  if (before || (kept[0] && kept[1])) { // w0 = p0 / (p0 + p1) = sigmoid(z0 - z1)
    const float difference = (kept[0] ? dw[0] : 0.0f) - (kept[1] ? dw[1] : 0.0f);
    grad[0] = difference * (prob[0] / sum) * (prob[1] / sum);
    grad[1] = -grad[0];
  }
  return true;
}

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ROUTEGRADIENT_H
