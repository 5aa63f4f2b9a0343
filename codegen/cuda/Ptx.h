//===- Ptx.h - PTX text and cubins --------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CUDA_PTX_H
#define MOEC_CODEGEN_CUDA_PTX_H

#include "codegen/kernel/KernelTarget.h"

namespace moe::codegen::cuda {

/// Compiles to PTX for `chip`, as "sm_90".
std::unique_ptr<ObjectCompiler> createPtxCompiler(mlir::MLIRContext *context, llvm::StringRef chip);

/// One PTX module of all modules that the compiler made. Fails with a diagnostic if one of them calls a function that
/// none of them has, which the driver would report only when it loads the plan.
mlir::FailureOr<std::string> joinPtx(mlir::Location location, llvm::ArrayRef<const std::string *> modules);

/// Path of the assembler of the CUDA toolkit (on PATH, below CUDA_HOME or CUDA_PATH, or where NVIDIA's packages put
/// it); empty if there is none.
std::string findPtxas();

/// Assembles PTX to a cubin. Fails with the assembler's message.
mlir::FailureOr<std::string> assemble(mlir::Location location, llvm::StringRef ptxas, llvm::StringRef chip,
                                      llvm::StringRef ptx);

} // namespace moe::codegen::cuda

#endif // MOEC_CODEGEN_CUDA_PTX_H
