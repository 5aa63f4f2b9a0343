//===- KernelRunner.h - Compiles fused regions and runs them in this process --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_CODEGEN_KERNELRUNNER_H
#define MOEC_TEST_CODEGEN_KERNELRUNNER_H

#include "codegen/kernel/KernelCompiler.h"
#include "ir/reference/Interpreter.h"
#include "runtime/abi/KernelAbi.h"
#include "test/gpu/sim/Fibers.h"
#include <random>

namespace moe::codegen::test {

/// A context with all dialects that regions and kernels need.
std::unique_ptr<mlir::MLIRContext> makeContext();

/// A region with `op` as its only fused operation, and values for its inputs.
struct Case {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  ir::FusedOp op;
  std::vector<ir::HostTensor> inputs;
};

/// Parses `text`, a module with one function that holds one moe.fused; inputs are drawn from `random` (floats normal,
/// integers in [-2, 5], booleans).
Case parseCase(mlir::MLIRContext &context, llvm::StringRef text, std::mt19937_64 &random);
ir::HostTensor drawTensor(mlir::RankedTensorType type, std::mt19937_64 &random, int64_t low = -2, int64_t high = 5);

/// What the interpreter says, rounding every result to its element type.
std::vector<ir::HostTensor> reference(Case &c);

/// Bytes as a kernel sees them.
std::vector<uint8_t> toBytes(const ir::HostTensor &tensor, mlir::Type element);
ir::HostTensor fromBytes(const uint8_t *bytes, mlir::RankedTensorType type);

/// |a - b| / |b| in the Euclidean norm (infinite if a value is NaN or infinite in one only).
double relativeError(const ir::HostTensor &a, const ir::HostTensor &b);

/// Compiled regions of one target in one image.
class KernelRunner {
public:
  /// `target` as for `moec compile`: "cpu:native", or "cuda:simulated", whose kernels run on the fibers of
  /// test/gpu/sim.
  KernelRunner(mlir::MLIRContext &context, llvm::StringRef target);
  ~KernelRunner();

  /// Number of the region, or -1 if the compiler refuses it.
  int add(ir::FusedOp op);
  /// Compiles all regions and loads the image; false on failure.
  bool load(CompileReport *report = nullptr);

  struct Run {
    /// Draws the cuts of the extent; null: one piece.
    std::mt19937_64 *cuts = nullptr;
    /// Put outputs into the bytes of inputs where the plan allows it.
    bool inPlace = false;
    /// CUDA: which blocks and threads come first, and what shared memory holds before the kernel writes it.
    sim::Order order = sim::Order::Ascending;
    uint8_t sharedGarbage = 0;
  };
  /// Runs region `number`; returns the bytes of each output. Checks that nothing is written past the end of a buffer.
  std::vector<std::vector<uint8_t>> run(int number, const std::vector<ir::HostTensor> &inputs, const Run &options);

  const FusedPlan &plan(int number) const { return regions[number].plan; }
  /// Of a CPU target.
  MoeKernelFn function(int number, unsigned call) const {
    return reinterpret_cast<MoeKernelFn>(regions[number].functions[call]);
  }
  /// The loaded image.
  const std::string &image() const { return imageBytes; }
  KernelCompiler &compiler() { return *kernelCompiler; }

private:
  void launch(const PlannedCall &call, void *function, std::vector<void *> &pointers,
              llvm::SmallVector<int64_t> numbers, const Run &options);

  struct Region {
    FusedPlan plan;
    llvm::SmallVector<unsigned, 2> kernels;
    std::vector<void *> functions;
    std::vector<mlir::RankedTensorType> inputs, outputs;
  };
  std::unique_ptr<KernelTarget> machine;
  std::unique_ptr<KernelCompiler> kernelCompiler;
  std::vector<Region> regions;
  std::string imageBytes;
  void *handle = nullptr;
};

} // namespace moe::codegen::test

#endif // MOEC_TEST_CODEGEN_KERNELRUNNER_H
