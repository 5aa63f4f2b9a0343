//===- CudaTarget.h - GPUs, and the simulated device --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CUDA_CUDATARGET_H
#define MOEC_CODEGEN_CUDA_CUDATARGET_H

#include "codegen/kernel/KernelTarget.h"

namespace moe::codegen {

/// What the names of `createCudaTarget` are, for messages.
inline constexpr llvm::StringLiteral kCudaTargets = "sm_80, sm_90, sm_100, simulated";

struct CudaTargetOptions {
  /// Assemble to a cubin where the toolkit's ptxas is found, so that nothing is compiled when a run starts; otherwise
  /// the image is PTX, which the driver compiles.
  bool assemble = true;
};

/// The GPUs of compute capability 8.x, 9.x, 10.x, or the simulated device of the tests. Null, with a reason in `error`,
/// for any other name.
std::unique_ptr<KernelTarget> createCudaTarget(llvm::StringRef name, std::string &error,
                                               const CudaTargetOptions &options = {});

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CUDA_CUDATARGET_H
