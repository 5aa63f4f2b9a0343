//===- Loops.h - What the emitters of all targets write loops with ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_LOOPS_H
#define MOEC_CODEGEN_KERNEL_LOOPS_H

#include "codegen/kernel/NodeEmitter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

namespace moe::codegen {

using Values = llvm::SmallVector<mlir::Value>;

/// for (i = low; i < high; i += step), with values carried from one iteration to the next; returns the last ones.
Values forLoop(NodeEmitter &e, mlir::Value low, mlir::Value high, mlir::Value step, const Values &carried,
               llvm::function_ref<void(mlir::Value, Values &)> body);
Values forLoop(NodeEmitter &e, mlir::Value low, mlir::Value high, int64_t step, const Values &carried,
               llvm::function_ref<void(mlir::Value, Values &)> body);

/// Runs `body` where `condition` holds.
void ifThen(NodeEmitter &e, mlir::Value condition, llvm::function_ref<void()> body);

/// Sets the scope's index of each of `dims` from their row-major position.
void setDims(NodeEmitter &e, llvm::ArrayRef<unsigned> dims, mlir::Value position, Scope &scope);

/// A scope at which no loop is open.
Scope outerScope(NodeEmitter &e);

mlir::Value divide(NodeEmitter &e, mlir::Value value, int64_t divisor);
mlir::Value remainder(NodeEmitter &e, mlir::Value value, int64_t divisor);

/// Declares the pointers of a call, the first parameters of `function`, to be aligned and, unless two of them may name
/// the same bytes, not aliased.
void markPointers(mlir::LLVM::LLVMFuncOp function, const Strategy &strategy, const PlannedCall &call);

/// Tells the emitter which parameter of `function` is which pointer of the call, and which are its numbers.
void bindParameters(NodeEmitter &e, mlir::LLVM::LLVMFuncOp function, const PlannedCall &call);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_LOOPS_H
