//===- ObjectCode.h - x86-64 object files and shared objects ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CPU_OBJECTCODE_H
#define MOEC_CODEGEN_CPU_OBJECTCODE_H

#include "codegen/cpu/CpuTarget.h"
#include "codegen/kernel/KernelTarget.h"

namespace moe::codegen {

/// Compiles to ELF object files.
std::unique_ptr<ObjectCompiler> createCpuObjectCompiler(mlir::MLIRContext *context, const CpuTarget &target);

/// Links object files into one shared object that exports their global functions. It may need `imports` from outside
/// and nothing else.
mlir::FailureOr<std::string> linkSharedObject(mlir::Location location, llvm::ArrayRef<const std::string *> objects,
                                              llvm::ArrayRef<llvm::StringRef> imports = {});

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CPU_OBJECTCODE_H
