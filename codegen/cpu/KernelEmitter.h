//===- KernelEmitter.h - Loops around graph nodes ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CPU_KERNELEMITTER_H
#define MOEC_CODEGEN_CPU_KERNELEMITTER_H

#include "codegen/kernel/Loops.h"
#include "mlir/IR/BuiltinOps.h"

namespace moe::codegen {

/// Adds to `module` one exported function of the kernel ABI per call of the strategy's plan, named by `symbols`.
void emitCpuKernels(mlir::ModuleOp module, const Strategy &strategy, llvm::ArrayRef<std::string> symbols);

// One function per loop structure; `call` is the number of the call in the plan, [begin, end) the part of its extent.
void emitPointwise(NodeEmitter &e, mlir::Value begin, mlir::Value end);
void emitRows(NodeEmitter &e, mlir::Value begin, mlir::Value end);
void emitSplitRows(NodeEmitter &e, unsigned call, mlir::Value begin, mlir::Value end);
void emitColumns(NodeEmitter &e, unsigned call, mlir::Value begin, mlir::Value end);

/// Part of a dimension that a vector loop runs over.
struct Span {
  unsigned dim;
  mlir::Value low, high;
  int64_t maxLength; ///< high - low is at most this
  bool whole;        ///< high - low is a multiple of the lanes in every case
};

/// The whole of a dimension.
Span wholeSpan(NodeEmitter &e, unsigned dim);
/// [chunkIndex * chunk, min((chunkIndex + 1) * chunk, size)).
Span chunkSpan(NodeEmitter &e, unsigned dim, mlir::Value chunkIndex, int64_t chunk);

/// Runs `body` once per vector of the span: full vectors first, `unroll` of them per iteration, then the lanes that are
/// left under a mask. `carried` holds `unroll` groups of equal size; copy u of the body works on group u.
void vectorLoop(NodeEmitter &e, const Span &span, unsigned unroll, const Scope &scope, Values &carried,
                llvm::function_ref<void(Scope &, llvm::MutableArrayRef<mlir::Value>)> body);

/// Loops over `dims` (the last one by vectors, over `last`), hoisting what of `roots` is invariant at each level.
void nest(NodeEmitter &e, llvm::ArrayRef<unsigned> dims, const Span &last, unsigned unroll, uint64_t available,
          unsigned stage, llvm::ArrayRef<NodeId> roots, const Scope &scope, Values &carried,
          llvm::function_ref<void(Scope &, llvm::MutableArrayRef<mlir::Value>)> body);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CPU_KERNELEMITTER_H
