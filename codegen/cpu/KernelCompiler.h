//===- KernelCompiler.h - Fused regions to one shared object ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CPU_KERNELCOMPILER_H
#define MOEC_CODEGEN_CPU_KERNELCOMPILER_H

#include "codegen/cpu/CpuTarget.h"
#include "codegen/cpu/FusedPlan.h"
#include "mlir/IR/OwningOpRef.h"
#include <memory>

namespace moe::codegen {

/// One exported function of the image.
struct KernelInfo {
  /// `void symbol(const MoeKernelArgs *, int64_t begin, int64_t end)`.
  std::string symbol;
  std::string emitter;
  /// Of the region (operations, attributes, types; locations, layouts and discardable attributes ignored), the call's
  /// number and the target: equal hashes mean equal code.
  uint64_t structuralHash = 0;
};

struct CompileOptions {
  /// Threads that compile kernels (one where the MLIR context is single-threaded).
  unsigned threads = 2;
  /// Keep the text of each kernel's LLVM IR (after optimisation) in `CompileReport::llvmIr`.
  bool keepLlvmIr = false;
};

/// What a compilation did, for reports and benchmarks.
struct CompileReport {
  unsigned regions = 0, fromCache = 0;
  double emitSeconds = 0, lowerSeconds = 0, optimizeSeconds = 0, codegenSeconds = 0, linkSeconds = 0;
  std::vector<std::string> llvmIr;
};

/// Collects regions, then compiles them all at once. Compiled regions are remembered for the life of the process, so
/// that a second image with the same regions costs only the link.
class KernelCompiler {
public:
  KernelCompiler(mlir::MLIRContext *context, CpuTarget target);
  ~KernelCompiler();

  const CpuTarget &getTarget() const;

  /// Adds a region and returns its kernels, one per call of `planFused` with the target's vectorBits. A region that
  /// equals an earlier one gets the same kernels. The operation may be erased afterwards.
  mlir::FailureOr<llvm::SmallVector<unsigned, 2>> add(ir::FusedOp op);
  llvm::ArrayRef<KernelInfo> kernels() const;

  /// A position-independent ELF shared object that exports the kernels and needs no other symbols. Fails with a
  /// diagnostic; empty if there are no kernels.
  mlir::FailureOr<std::string> compile(const CompileOptions &options = {}, CompileReport *report = nullptr);

private:
  struct State;
  std::unique_ptr<State> state;
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CPU_KERNELCOMPILER_H
