//===- CpuTarget.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/CpuTarget.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

namespace moe::codegen {

// Levels of the x86-64 psABI, as runtime/cpu/kernels/Isa.h tells them apart.
static constexpr llvm::StringRef v3Features[] = {"avx",   "avx2",  "bmi",    "bmi2",   "cx16",   "f16c", "fma",
                                                 "lzcnt", "movbe", "popcnt", "sse4.1", "sse4.2", "ssse3"};
static constexpr llvm::StringRef v4Features[] = {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"};

static CpuTarget level(llvm::StringRef name, llvm::StringRef tune, bool v4) {
  CpuTarget target{name.str(), tune.str(), {}, v4 ? 512u : 256u};
  for (llvm::StringRef feature : v3Features)
    target.features.push_back(feature.str());
  if (v4)
    for (llvm::StringRef feature : v4Features)
      target.features.push_back(feature.str());
  llvm::sort(target.features);
  return target;
}

std::optional<CpuTarget> CpuTarget::parse(llvm::StringRef text, std::string &error) {
  if (text == "x86-64-v3" || text == "x86-64-v4")
    return level(text, text, text.ends_with("4"));
  if (text != "native") {
    error = "unknown CPU '" + text.str() + "'; known: native, x86-64-v3, x86-64-v4";
    return std::nullopt;
  }
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  auto present = [&](llvm::StringRef feature) { return host.lookup(feature); };
  for (llvm::StringRef feature : v3Features)
    if (!present(feature)) {
      error = "this processor lacks the feature '" + feature.str() + "'; kernels need at least x86-64-v3";
      return std::nullopt;
    }
  return level(text, llvm::sys::getHostCPUName(), llvm::all_of(v4Features, present));
}

} // namespace moe::codegen
