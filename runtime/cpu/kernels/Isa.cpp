//===- Isa.cpp ----------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/Isa.h"

#include <algorithm>

namespace moe::cpu {
namespace {

constexpr std::string_view v3Features[] = {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"};
constexpr std::string_view v4Features[] = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"};

Isa askProcessor() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4"))
    return Isa::V4;
  if (__builtin_cpu_supports("x86-64-v3"))
    return Isa::V3;
#endif
  return Isa::Baseline;
}

} // namespace

Isa hostIsa() {
  static const Isa isa = askProcessor();
  return isa;
}

Isa isaFromFeatures(std::span<const std::string_view> features) {
  auto present = [&](std::string_view feature) { return std::ranges::find(features, feature) != features.end(); };
  if (!std::ranges::all_of(v3Features, present))
    return Isa::Baseline;
  return std::ranges::all_of(v4Features, present) ? Isa::V4 : Isa::V3;
}

std::string_view name(Isa isa) {
  switch (isa) {
  case Isa::Baseline:
    return "x86-64";
  case Isa::V3:
    return "x86-64-v3";
  case Isa::V4:
    return "x86-64-v4";
  }
  return {};
}

} // namespace moe::cpu
