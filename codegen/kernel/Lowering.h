//===- Lowering.h - From a module of kernels to LLVM IR -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_LOWERING_H
#define MOEC_CODEGEN_KERNEL_LOWERING_H

#include "codegen/kernel/KernelTarget.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/CodeGen.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace llvm {
class LLVMContext;
class Module;
class TargetMachine;
} // namespace llvm

namespace moe::codegen {

/// Loads what kernels are written in (arith, cf, gpu, LLVM, math, NVVM, scf, vector) and its translation to LLVM IR
/// into `context`. Call once before compiling, not from several threads.
void loadKernelDialects(mlir::MLIRContext *context);

/// What expandMath may use beside plain arithmetic, on vectors of the width it has. Each includes those before it.
enum class MathInstructions {
  None,
  Avx512F,   ///< vrcp14ps and vscalefps
  Avx512Bf16 ///< vcvtneps2bf16, which takes subnormal numbers for 0
};

/// Lowers modules of kernels. One per compilation; usable from several threads.
class KernelLowering {
public:
  explicit KernelLowering(mlir::MLIRContext *context, MathInstructions instructions = MathInstructions::None);
  ~KernelLowering();

  /// LLVM IR of `module`, which is consumed. Null, with a diagnostic, on failure.
  std::unique_ptr<llvm::Module> lower(mlir::ModuleOp module, llvm::LLVMContext &context) const;

private:
  struct State;
  std::unique_ptr<State> state;
  MathInstructions instructions;
};

/// Optimises and compiles what `lower` made of kernels, on which the caller has set the attributes of its target.
/// Nothing if the target cannot write files of this type.
std::optional<std::string> compileLlvm(llvm::Module &module, llvm::TargetMachine &machine, llvm::CodeGenFileType type,
                                       bool keepLlvmIr, CompileReport &report);

/// Adds the time since its creation (or the last call) to a sum.
class Stopwatch {
public:
  void addTo(double &seconds) {
    auto now = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(now - start).count();
    start = now;
  }

private:
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_LOWERING_H
