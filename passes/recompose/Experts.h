//===- Experts.h - The forms in which layers of experts are exported ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Each function looks for one form in a program of one block and replaces what it finds; operations that nobody uses
// any more are left to the caller.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_EXPERTS_H
#define MOEC_PASSES_RECOMPOSE_EXPERTS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace moe::ir {

struct RowTables;

/// Products with weights that are gathered for each choice of an expert.
void recomposeGatheredExperts(mlir::func::FuncOp function, RowTables tables);
/// The layer of every expert on all tokens, weighted by zero where it was not chosen.
void recomposeLoopedExperts(mlir::func::FuncOp function, RowTables tables);
/// Sums with one-hot tensors of tokens, experts and slots.
void recomposeCapacityExperts(mlir::func::FuncOp function);

/// Erases operations without effects that nobody uses.
void eraseUnused(mlir::Block &block);

} // namespace moe::ir

#endif // MOEC_PASSES_RECOMPOSE_EXPERTS_H
