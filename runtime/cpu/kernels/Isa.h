//===- Isa.h - Instruction sets that the library kernels are built for --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Kernels whose speed depends on the vector width are compiled once per level of the x86-64 psABI. The level changes
// bits (vector width and fused multiply-add change rounding), so a plan fixes it; the host's best level is only a
// default. On other processors there is one level, Baseline.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_ISA_H
#define MOEC_RUNTIME_CPU_KERNELS_ISA_H

#include <span>
#include <string_view>

namespace moe::cpu {

enum class Isa {
  Baseline, ///< x86-64: SSE2, 4 lanes, no fused multiply-add
  V3,       ///< x86-64-v3: AVX2 and FMA, 8 lanes
  V4,       ///< x86-64-v4: AVX-512 F, BW, CD, DQ, VL, 16 lanes
};

/// The best level that this processor (and its operating system) supports; asked once per process.
Isa hostIsa();

/// The best level all of whose features are in `features`, named as in LLVM ("avx512f"), e.g. `Target.features` of a
/// plan. Independent of the processor this runs on.
Isa isaFromFeatures(std::span<const std::string_view> features);

/// "x86-64", "x86-64-v3", "x86-64-v4".
std::string_view name(Isa isa);

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_ISA_H
