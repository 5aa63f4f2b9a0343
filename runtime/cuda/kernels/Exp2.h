//===- Exp2.h - 2^x, the same bits as on the CPU ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_EXP2_H
#define MOEC_RUNTIME_CUDA_KERNELS_EXP2_H

#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {

/// What `exp2` of runtime/cpu/kernels/Vector.h computes, where products and sums round separately: 2^x to 1.5e-7
/// relative for x in [-126, 127]; smaller x count as -126; NaN stays NaN.
MOE_DEVICE float exp2Exactly(float x) {
  constexpr float magic = 0x1.8p23f; // adding it rounds to an integer, which lies in the low bits
  x = -126.0f > x ? -126.0f : x;
  const float shifted = x + magic;
  const float f = x - (shifted - magic);
  float y = 0x1.41fbbcp-13f;
  y = y * f + 0x1.5f3e52p-10f;
  y = y * f + 0x1.3b2d4cp-7f;
  y = y * f + 0x1.c6aee8p-5f;
  y = y * f + 0x1.ebfbdcp-3f;
  y = y * f + 0x1.62e43p-1f;
  y = y * f + 1.0f;
  return y * gpu::floatOf((gpu::bitsOf(shifted) << 23) + 0x3F800000u);
}

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_EXP2_H
