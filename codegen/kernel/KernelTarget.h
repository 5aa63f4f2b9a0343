//===- KernelTarget.h - What a module is compiled for -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The passes, the plan and the kernel compiler know a machine by this interface only. A new kind of machine is a folder
// beside codegen/cpu and a line in codegen/targets/Targets.cpp.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_KERNELTARGET_H
#define MOEC_CODEGEN_KERNEL_KERNELTARGET_H

#include "codegen/kernel/Strategy.h"
#include "mlir/IR/BuiltinOps.h"

#include <memory>
#include <string>
#include <vector>

namespace moe::plan {
class Step;
}

namespace moe::codegen {

/// What a compilation did, for reports and benchmarks.
struct CompileReport {
  unsigned regions = 0, fromCache = 0;
  double emitSeconds = 0, lowerSeconds = 0, optimizeSeconds = 0, codegenSeconds = 0, linkSeconds = 0;
  std::vector<std::string> llvmIr;
};

/// Native code of all kernels of a plan.
struct KernelImage {
  /// As in plan.Image: "elf", "cubin", "ptx", "host".
  std::string format;
  std::string bytes;
};

/// Lowers modules of kernels to object code. One per compilation; `compile` may be called from several threads.
class ObjectCompiler {
public:
  virtual ~ObjectCompiler() = default;

  /// Object code, of whatever form `KernelTarget::link` takes, of the functions of `module`, which is consumed.
  /// `report` gathers times and, if `keepLlvmIr`, the IR; it is not shared between threads.
  virtual mlir::FailureOr<std::string> compile(mlir::ModuleOp module, bool keepLlvmIr, CompileReport &report) const = 0;
};

class KernelTarget {
public:
  virtual ~KernelTarget() = default;

  /// "cpu" or "cuda": the backend library of `moerun`.
  virtual llvm::StringRef device() const = 0;
  /// What the user asked for: "native", "x86-64-v3", "sm_90", "simulated".
  virtual llvm::StringRef name() const = 0;
  /// Features that a processor needs for the kernels, named as in LLVM and sorted.
  virtual llvm::ArrayRef<std::string> features() const = 0;
  /// Threads per rank; 1 where the device has its own.
  virtual int threads() const = 0;
  /// All that decides the code of a region besides the region: equal keys and regions mean equal code.
  virtual std::string codeKey() const = 0;

  /// Decides how a region runs. Buffers are row-major and contiguous; booleans take one byte. Fails with a diagnostic
  /// at the operation that no emitter supports (codegen/analysis/FusionRules.h).
  virtual mlir::FailureOr<Strategy> chooseStrategy(ir::FusedOp op) const = 0;
  /// `chooseStrategy`, for those who ask for nothing but the plan.
  mlir::FailureOr<FusedPlan> plan(ir::FusedOp op) const {
    mlir::FailureOr<Strategy> strategy = chooseStrategy(op);
    if (failed(strategy))
      return mlir::failure();
    return std::move(strategy->plan);
  }

  /// Adds to `module` one exported function per call of the strategy's plan, named by `symbols`.
  virtual void emitKernels(mlir::ModuleOp module, const Strategy &strategy,
                           llvm::ArrayRef<std::string> symbols) const = 0;
  virtual std::unique_ptr<ObjectCompiler> createObjectCompiler(mlir::MLIRContext *context) const = 0;
  /// One image of all objects, which needs nothing from outside but what its format allows. Fails with a diagnostic.
  virtual mlir::FailureOr<KernelImage> link(mlir::Location location,
                                            llvm::ArrayRef<const std::string *> objects) const = 0;

  /// Why products can not be computed in an element type, or nothing where they can.
  virtual std::string whyNotIn(mlir::Type /*element*/) const { return {}; }

  /// Bytes of scratch that library work (gemm, attention, route, scatter_add) with everything but its scratch filled in
  /// needs. `types`: the element types of A, B, C and the bias of a product, of the first result of anything else.
  virtual uint64_t libraryScratchBytes(const plan::Step &step, llvm::ArrayRef<mlir::Type> types) const = 0;
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_KERNELTARGET_H
