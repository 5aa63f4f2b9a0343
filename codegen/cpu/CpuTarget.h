//===- CpuTarget.h - The processor that kernels are compiled for --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CPU_CPUTARGET_H
#define MOEC_CODEGEN_CPU_CPUTARGET_H

#include "codegen/kernel/KernelTarget.h"
#include <optional>

namespace moe::codegen {

struct CpuTarget {
  /// What the user asked for: "native", "x86-64-v3", "x86-64-v4".
  std::string name;
  /// Processor that instruction scheduling is tuned for, as LLVM names it.
  std::string tune;
  /// Features that kernels may use, named as in LLVM and sorted; a processor needs all of them. At least those of
  /// x86-64-v3: fused multiply-add and half-precision conversions have no substitute here that agrees in every bit.
  std::vector<std::string> features;
  /// Width of vectors: 256 or 512.
  unsigned vectorBits = 256;

  /// The target that `text` names; "native" is the best level that this processor supports. None, with a reason in
  /// `error`, if there is no such target or this processor is below x86-64-v3.
  static std::optional<CpuTarget> parse(llvm::StringRef text, std::string &error);
};

/// The target `name` of CpuTarget::parse with `threads` threads per rank; null, with a reason in `error`, if there is
/// none.
std::unique_ptr<KernelTarget> createCpuTarget(llvm::StringRef name, int threads, std::string &error);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CPU_CPUTARGET_H
