//===- ThreadOps.h - Threads, barriers and shuffles on a GPU or on the simulated device ---------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CUDA_THREADOPS_H
#define MOEC_CODEGEN_CUDA_THREADOPS_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::codegen::cuda {

/// Replaces the `gpu` operations of kernels (CudaEmitter.h) and the calls for shared memory by NVVM.
void lowerToNvvm(mlir::ModuleOp module);

/// Replaces them by calls of the functions of runtime/abi/SimulatedDevice.h, and each kernel by a function of the
/// signature that the simulated device calls.
void lowerToSimulation(mlir::ModuleOp module);

/// The functions that code lowered by `lowerToSimulation` may call.
llvm::ArrayRef<llvm::StringRef> simulationImports();

} // namespace moe::codegen::cuda

#endif // MOEC_CODEGEN_CUDA_THREADOPS_H
