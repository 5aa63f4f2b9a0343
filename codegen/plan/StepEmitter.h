//===- StepEmitter.h - Operations with slots become plan steps --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_STEPEMITTER_H
#define MOEC_CODEGEN_PLAN_STEPEMITTER_H

#include "codegen/cpu/KernelCompiler.h"
#include "ir/Ops.h"
#include "passes/BufferTable.h"
#include "runtime/plan/plan.pb.h"

namespace moe::codegen {

/// Appends the steps of one function to a program.
class StepEmitter {
public:
  StepEmitter(mlir::ModuleOp module, const ir::BufferTable &table, KernelCompiler &compiler, int threads)
      : module(module), table(table), compiler(compiler), threads(threads) {}

  llvm::LogicalResult emit(mlir::func::FuncOp function, plan::Program &program);

private:
  llvm::LogicalResult emitOp(mlir::Operation *op, plan::Program &program);
  llvm::LogicalResult emitFused(ir::FusedOp op, plan::Program &program);
  llvm::LogicalResult emitLibrary(mlir::Operation *op, plan::Program &program);
  void emitCopy(mlir::Operation *op, mlir::RankedTensorType type, ir::Slot from, ir::Slot to, plan::Program &program);
  llvm::LogicalResult emitStagedInputs(mlir::func::FuncOp function, plan::Program &program);

  mlir::ModuleOp module;
  const ir::BufferTable &table;
  KernelCompiler &compiler;
  int threads;
  llvm::DenseMap<mlir::Value, ir::Slot> slots;
};

void setSlice(plan::Slice *slice, ir::Slot slot, uint64_t bytes);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_STEPEMITTER_H
