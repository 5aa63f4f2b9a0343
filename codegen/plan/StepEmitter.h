//===- StepEmitter.h - Operations with slots become plan steps --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_STEPEMITTER_H
#define MOEC_CODEGEN_PLAN_STEPEMITTER_H

#include "codegen/kernel/KernelCompiler.h"
#include "ir/Ops.h"
#include "passes/BufferTable.h"
#include "passes/StateAliases.h"
#include "runtime/plan/plan.pb.h"

namespace moe::codegen {

/// Appends the steps of one function to a program.
class StepEmitter {
public:
  StepEmitter(mlir::ModuleOp module, const ir::BufferTable &table, KernelCompiler &compiler);

  llvm::LogicalResult emit(mlir::func::FuncOp function, plan::Program &program);

  using Parameters = llvm::SmallVector<plan::KernelParameter>;
  /// Of the kernels (`KernelCompiler::kernels`) that the steps emitted so far call.
  llvm::ArrayRef<Parameters> kernelParameters() const { return parameters; }

private:
  llvm::LogicalResult emitOp(mlir::Operation *op, plan::Program &program);
  llvm::LogicalResult emitFused(ir::FusedOp op, plan::Program &program);
  llvm::LogicalResult emitProduct(ir::FusedOp op, plan::Program &program);
  llvm::LogicalResult emitLibrary(mlir::Operation *op, plan::Program &program);
  void addPointer(ir::FusedOp op, const FusedPlan &plan, unsigned call, const PlannedOperand &planned, plan::Step &step,
                  Parameters &parameters);
  /// Zeros, then the members.
  void emitJoin(ir::BucketJoinOp op, plan::Program &program);
  void emitCopy(mlir::Operation *op, mlir::RankedTensorType type, ir::Slot from, ir::Slot to, plan::Program &program);
  llvm::LogicalResult emitStagedInputs(mlir::func::FuncOp function, plan::Program &program);

  mlir::ModuleOp module;
  const ir::BufferTable &table;
  KernelCompiler &compiler;
  ir::StateAliases aliases;
  /// Buffers of states outside the step arena, by name.
  llvm::StringMap<int64_t> stateBuffers;
  std::vector<Parameters> parameters;
  llvm::DenseMap<mlir::Value, ir::Slot> slots;
};

void setSlice(plan::Slice *slice, ir::Slot slot, uint64_t bytes);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_STEPEMITTER_H
