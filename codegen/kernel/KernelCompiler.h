//===- KernelCompiler.h - Fused regions to one image ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_KERNELCOMPILER_H
#define MOEC_CODEGEN_KERNEL_KERNELCOMPILER_H

#include "codegen/kernel/KernelTarget.h"

namespace moe::codegen {

/// One exported function of the image.
struct KernelInfo {
  /// Its signature is that of the target's device (plan.Kernel).
  std::string symbol;
  std::string emitter;
  /// Of the region (operations, attributes, types; not locations, layouts and what the calls pass as numbers), the
  /// call's number and the target: equal hashes mean equal code.
  uint64_t structuralHash = 0;
  /// How many numbers each call passes.
  unsigned numbers = 0;
};

struct CompileOptions {
  /// Threads that compile kernels (one where the MLIR context is single-threaded).
  unsigned threads = 2;
  /// Keep the text of each kernel's LLVM IR (after optimisation) in `CompileReport::llvmIr`.
  bool keepLlvmIr = false;
};

/// Collects regions, then compiles them all at once. Compiled regions are remembered for the life of the process, so
/// that a second image with the same regions costs only the link.
class KernelCompiler {
public:
  /// `target` outlives the compiler.
  KernelCompiler(mlir::MLIRContext *context, const KernelTarget &target);
  ~KernelCompiler();

  const KernelTarget &getTarget() const;

  /// Adds a region and returns its kernels, one per call of the plan. A region that
  /// equals an earlier one gets the same kernels. The operation may be erased afterwards.
  mlir::FailureOr<llvm::SmallVector<unsigned, 2>> add(ir::FusedOp op);
  llvm::ArrayRef<KernelInfo> kernels() const;

  /// The image that holds all kernels. Fails with a diagnostic; empty if there are no kernels.
  mlir::FailureOr<KernelImage> compile(const CompileOptions &options = {}, CompileReport *report = nullptr);

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_KERNELCOMPILER_H
