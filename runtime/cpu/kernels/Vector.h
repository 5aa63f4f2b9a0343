//===- Vector.h - Float vectors of the instruction set that a file is compiled for --------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// For files that are compiled once per ISA. Everything here and in such files has internal linkage: an inline function
// with external linkage would be emitted by several of them, and the linker might keep the one that the processor lacks
// the instructions for. For the same reason they use no templates or inline functions of the standard library.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_VECTOR_H
#define MOEC_RUNTIME_CPU_KERNELS_VECTOR_H

#include "runtime/cpu/kernels/Philox.h"

#include <cstdint>

#define MOE_INLINE [[gnu::always_inline]] inline

namespace moe::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

using Vec = float __attribute__((vector_size(4 * lanes)));
using IVec = int32_t __attribute__((vector_size(4 * lanes)));
using UVec = uint32_t __attribute__((vector_size(4 * lanes)));
using WideVec = uint64_t __attribute__((vector_size(4 * lanes))); ///< half as many elements
using HalfUVec = uint32_t __attribute__((vector_size(2 * lanes)));
using Vec4 = float __attribute__((vector_size(16)));

MOE_INLINE Vec load(const float *from) {
  Vec result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}
MOE_INLINE void store(float *to, Vec value) {
  __builtin_memcpy(to, &value, sizeof value);
}
MOE_INLINE Vec4 load4(const float *from) {
  Vec4 result;
  __builtin_memcpy(&result, from, sizeof result);
  return result;
}
MOE_INLINE void store4(float *to, Vec4 value) {
  __builtin_memcpy(to, &value, sizeof value);
}

/// A bfloat16: the upper half of a float32.
struct Bf16 {
  uint16_t bits;
};
using HalfWord4 = uint16_t __attribute__((vector_size(8)));
using Word4 = uint32_t __attribute__((vector_size(16)));

MOE_INLINE Vec4 load4(const Bf16 *from) {
  HalfWord4 bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return Vec4(__builtin_convertvector(bits, Word4) << 16);
}
/// Rounds to nearest, ties to even; a NaN stays one.
MOE_INLINE void store4(Bf16 *to, Vec4 value) {
  Word4 bits = Word4(value), rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  rounded = value == value ? rounded : bits | 0x400000;
  HalfWord4 upper = __builtin_convertvector(rounded >> 16, HalfWord4);
  __builtin_memcpy(to, &upper, sizeof upper);
}

MOE_INLINE float load1(const float *from) {
  return *from;
}
MOE_INLINE float load1(const Bf16 *from) {
  uint32_t bits = uint32_t{from->bits} << 16;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}
MOE_INLINE void store1(float *to, float value) {
  *to = value;
}
MOE_INLINE void store1(Bf16 *to, float value) {
  Bf16 rounded[4];
  store4(rounded, Vec4{value});
  *to = rounded[0];
}

MOE_INLINE Vec broadcast(float value) {
  Vec result; // not `Vec{} + value`, an addition that may not be dropped since it changes -0
  for (int lane = 0; lane < lanes; ++lane)
    result[lane] = value;
  return result;
}

/// a * b + c, fused where the ISA has the instruction.
MOE_INLINE Vec multiplyAdd(Vec a, Vec b, Vec c) {
#if defined(__FMA__)
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// The larger; `b` if either is NaN (one instruction on x86).
MOE_INLINE Vec larger(Vec a, Vec b) {
  return a > b ? a : b;
}

/// 0, 1, 2, ...
MOE_INLINE IVec laneNumbers() {
  IVec result;
  for (int lane = 0; lane < lanes; ++lane)
    result[lane] = lane;
  return result;
}

MOE_INLINE WideVec wideLaneNumbers() {
  WideVec result;
  for (int lane = 0; lane < lanes / 2; ++lane)
    result[lane] = uint64_t(lane);
  return result;
}

/// 2^x to 1.5e-7 relative for x in [-126, 127]; smaller x count as -126; NaN stays NaN. 2^f on [-1/2, 1/2] is a
/// polynomial of degree 6 (minimax of the relative error with constant term 1).
MOE_INLINE Vec exp2(Vec x) {
  constexpr float magic = 0x1.8p23f; // adding it rounds to an integer, which lies in the low bits
  x = larger(broadcast(-126.0f), x);
  Vec shifted = x + magic;
  Vec f = x - (shifted - magic);
  Vec y = broadcast(0x1.41fbbcp-13f);
  y = multiplyAdd(y, f, broadcast(0x1.5f3e52p-10f));
  y = multiplyAdd(y, f, broadcast(0x1.3b2d4cp-7f));
  y = multiplyAdd(y, f, broadcast(0x1.c6aee8p-5f));
  y = multiplyAdd(y, f, broadcast(0x1.ebfbdcp-3f));
  y = multiplyAdd(y, f, broadcast(0x1.62e43p-1f));
  y = multiplyAdd(y, f, broadcast(1.0f));
  // A product, not an addition to the exponent bits, which could turn NaN into a number.
  return y * Vec((UVec(shifted) << 23) + 0x3F800000u);
}

/// tanh(x) to 3e-7 relative, and in `slope` its derivative, to 3e-7 + 2e-7 |x|; NaN stays NaN. Up to 5/8 x + x^3
/// P(x^2), P of degree 4 (minimax of the relative error); above, 1 - u with the derivative u (2 - u), which 1 - tanh^2
/// is only to its last bits.
MOE_INLINE Vec tanh(Vec x, Vec *slope = nullptr) {
  IVec sign = IVec(x) & INT32_MIN;
  Vec magnitude = Vec(IVec(x) ^ sign);
  Vec square = x * x;
  Vec p = broadcast(-0x1.75e1c6p-8f);
  p = multiplyAdd(p, square, broadcast(0x1.52269ap-6f));
  p = multiplyAdd(p, square, broadcast(-0x1.b83c5ap-5f));
  p = multiplyAdd(p, square, broadcast(0x1.110726p-3f));
  p = multiplyAdd(p, square, broadcast(-0x1.555532p-2f));
  Vec small = multiplyAdd(magnitude * square, p, magnitude);
  constexpr float most = 40.0f, twoLog2e = 0x1.715476p1f; // exp2 has no more
  Vec bounded = magnitude > most ? broadcast(most) : magnitude;
  Vec u = 2.0f / (exp2(bounded * twoLog2e) + 1.0f);
  IVec isSmall = magnitude < 0.625f;
  if (slope)
    *slope = isSmall ? 1.0f - small * small : u * (2.0f - u);
  return Vec(IVec(isSmall ? small : 1.0f - u) ^ sign);
}

/// Word 0 of Philox.h for the elements first, first + stride, ..., one per lane. The 32-bit words of the counter lie in
/// 64-bit lanes; their upper halves are garbage that the widening multiplication ignores.
struct PhiloxLanes {
  uint32_t key[2];
  uint64_t update;

  MOE_INLINE WideVec half(WideVec index) const {
    WideVec c0 = index, c1 = index >> 32, c2 = WideVec{} + (update & 0xFFFFFFFF), c3 = {};
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < philox::rounds; ++round) {
      WideVec product0 = (c0 & 0xFFFFFFFF) * uint64_t{philox::multiplier0};
      WideVec product1 = (c2 & 0xFFFFFFFF) * uint64_t{philox::multiplier1};
      c0 = (product1 >> 32) ^ c1 ^ uint64_t{k0};
      c1 = product1;
      c2 = (product0 >> 32) ^ c3 ^ uint64_t{k1};
      c3 = product0;
      k0 += philox::weyl0;
      k1 += philox::weyl1;
    }
    return c0;
  }

  MOE_INLINE UVec words(uint64_t first, uint64_t stride) const {
    WideVec low = wideLaneNumbers() * stride + first, high = low + stride * uint64_t{lanes / 2};
    HalfUVec halves[2] = {__builtin_convertvector(half(low), HalfUVec), __builtin_convertvector(half(high), HalfUVec)};
    UVec result;
    __builtin_memcpy(&result, halves, sizeof result);
    return result;
  }
};

/// Transposes a 4 x 4 block held in four vectors.
MOE_INLINE void transpose4(Vec4 (&rows)[4]) {
  Vec4 a = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
  Vec4 b = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  Vec4 c = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  Vec4 d = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  rows[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  rows[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  rows[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

} // namespace
} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_VECTOR_H
