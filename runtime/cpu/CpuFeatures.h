//===- CpuFeatures.h - Does this CPU have what a plan needs? ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_CPUFEATURES_H
#define MOEC_RUNTIME_CPU_CPUFEATURES_H

#include <string_view>
#include <vector>

namespace moe::cpu {

enum class Support {
  Yes,
  No,      ///< the CPU lacks the feature, or the operating system does not save its registers
  Unknown, ///< not a name that this version knows
};

/// Asks CPUID for a feature by its LLVM name ("avx512f", "sse4.1", "bmi").
Support cpuSupports(std::string_view feature);

/// All known features that this CPU has.
std::vector<std::string_view> cpuFeatures();

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_CPUFEATURES_H
