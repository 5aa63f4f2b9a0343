//===- Element.h - Types of elements in memory --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Kernels compute in float32 whatever memory holds.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ELEMENT_H
#define MOEC_RUNTIME_CUDA_KERNELS_ELEMENT_H

#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {

/// What tensors of a call hold.
enum class Element { Float32, Bf16 };

/// The upper half of a float32.
struct Bf16 {
  uint16_t bits;
};

MOE_BOTH float toFloat(float value) {
  return value;
}
MOE_DEVICE float toFloat(Bf16 value) {
  return gpu::floatOf(uint32_t{value.bits} << 16);
}

MOE_DEVICE void fromFloat(float value, float &to) {
  to = value;
}
/// To the nearest, ties to even; NaN stays NaN.
MOE_DEVICE void fromFloat(float value, Bf16 &to) {
  const uint32_t bits = gpu::bitsOf(value);
  const uint32_t rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  to.bits = static_cast<uint16_t>((value != value ? bits | 0x400000 : rounded) >> 16);
}

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ELEMENT_H
