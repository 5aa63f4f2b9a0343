//===- Targets.cpp - The targets that --target names --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/targets/Targets.h"

#include "codegen/cpu/CpuTarget.h"
#include "codegen/cuda/CudaTarget.h"

#include <thread>

namespace moe::codegen {

llvm::StringRef knownTargets() {
  return "cpu:native, cpu:x86-64-v3, cpu:x86-64-v4, cuda:sm_80, cuda:sm_90, cuda:sm_100, cuda:simulated";
}

std::unique_ptr<KernelTarget> createTarget(llvm::StringRef text, int64_t threads, std::string &error) {
  auto [device, name] = text.split(':');
  if (device == "cpu") {
    auto count = static_cast<int>(threads > 0 ? threads : std::max(1u, std::thread::hardware_concurrency()));
    return createCpuTarget(name, count, error);
  }
  if (device == "cuda")
    return createCudaTarget(name, error);
  error = "there is no target '" + text.str() + "'; known: " + knownTargets().str();
  return nullptr;
}

} // namespace moe::codegen
