//===- CudaEmitter.h - Kernels for the threads of a GPU -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A kernel is an `llvm.func` with the attribute `nvvm.kernel`, one pointer per operand of its call. What threads have
// beyond a CPU's is written with `gpu` operations (thread_id, block_id, barrier, shuffle) and a call of
// `sharedMemorySymbol`; ThreadOps.h lowers both, to a GPU or to the simulated device.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CUDA_CUDAEMITTER_H
#define MOEC_CODEGEN_CUDA_CUDAEMITTER_H

#include "codegen/kernel/Loops.h"
#include "mlir/IR/BuiltinOps.h"

namespace moe::codegen::cuda {

/// Name of the function that stands for the start of the block's dynamic shared memory in kernels not yet lowered.
inline constexpr llvm::StringLiteral sharedMemorySymbol = "moec.shared_memory";

/// Adds to `module` one kernel per call of the strategy's plan, named by `symbols`.
void emitKernels(mlir::ModuleOp module, const Strategy &strategy, llvm::ArrayRef<std::string> symbols);

/// What a thread knows of itself and of its block. Indices are of the emitter's index type.
class ThreadContext {
public:
  /// `threads` per block.
  ThreadContext(NodeEmitter &e, unsigned threads);

  mlir::Value thread() const { return threadIndex; }
  mlir::Value block() const { return blockIndex; }
  /// block * threads + thread.
  mlir::Value global();
  void barrier();
  /// Value (f32, i1, i32 or i64) of the lane whose number differs from this one's by the bits of `mask`.
  mlir::Value shuffleXor(mlir::Value value, unsigned mask);
  /// Pointer to slot `index` (8 bytes each) of the block's shared memory.
  mlir::Value sharedSlot(mlir::Value index);

private:
  NodeEmitter &e;
  unsigned threads;
  mlir::Value threadIndex, blockIndex, globalIndex, shared;
};

// One function per loop structure; `call` is the number of the call in the plan.
void emitPointwise(NodeEmitter &e, ThreadContext &t);
void emitRows(NodeEmitter &e, ThreadContext &t, unsigned threads);
void emitSplitRows(NodeEmitter &e, ThreadContext &t, unsigned call);
void emitColumns(NodeEmitter &e, ThreadContext &t, unsigned call);

/// value < limit, both unsigned.
mlir::Value isBelow(NodeEmitter &e, mlir::Value value, int64_t limit);

/// Opens the scope at vector number `vector` of the row-major space of `dims`: the lanes run along the last of them.
void openVector(NodeEmitter &e, llvm::ArrayRef<unsigned> dims, mlir::Value vector, Scope &scope);

/// How a value of a reduction lies in memory: booleans as bytes.
mlir::Type partialType(NodeEmitter &e, NodeId reduction);
mlir::Value toPartial(NodeEmitter &e, mlir::Value value);
mlir::Value fromPartial(NodeEmitter &e, mlir::Value value, NodeId reduction);

} // namespace moe::codegen::cuda

#endif // MOEC_CODEGEN_CUDA_CUDAEMITTER_H
