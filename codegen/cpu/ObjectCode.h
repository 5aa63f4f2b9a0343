//===- ObjectCode.h - From the MLIR of kernels to machine code ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CPU_OBJECTCODE_H
#define MOEC_CODEGEN_CPU_OBJECTCODE_H

#include "codegen/cpu/KernelCompiler.h"
#include "mlir/IR/BuiltinOps.h"

namespace moe::codegen {

/// Loads what kernels are written in (arith, cf, LLVM, math, scf, vector) and its translation to LLVM IR into
/// `context`. Call once before compiling, not from several threads.
void loadKernelDialects(mlir::MLIRContext *context);

/// Lowers modules of kernels to object files. One per compilation; usable from several threads.
class ObjectCompiler {
public:
  ObjectCompiler(mlir::MLIRContext *context, const CpuTarget &target);
  ~ObjectCompiler();

  /// An ELF object file with the functions of `module`, which is consumed. `report` gathers times and, if
  /// `keepLlvmIr`, the IR; it is not shared between threads.
  mlir::FailureOr<std::string> compile(mlir::ModuleOp module, bool keepLlvmIr, CompileReport &report) const;

private:
  struct State;
  std::unique_ptr<State> state;
};

/// Links object files into one shared object that exports their global functions and needs nothing from outside.
mlir::FailureOr<std::string> linkImage(mlir::Location location, llvm::ArrayRef<const std::string *> objects);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CPU_OBJECTCODE_H
