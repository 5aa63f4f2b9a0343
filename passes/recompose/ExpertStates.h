//===- ExpertStates.h - The parameters that experts have ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_EXPERTSTATES_H
#define MOEC_PASSES_RECOMPOSE_EXPERTSTATES_H

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace moe::ir::recompose {

/// Finds the states whose dimensions go with the experts of some rows.
class ExpertStates {
public:
  /// Follows dimension `dim` of `value` to its users, up to where rows become tokens again.
  void follow(mlir::Value value, int64_t dim);

  /// Name of the state and the dimension of its experts.
  llvm::MapVector<mlir::StringAttr, int64_t> found;
  /// Tensors of single experts, joined.
  llvm::SetVector<ConcatOp> joins;

private:
  llvm::DenseSet<std::pair<mlir::Value, int64_t>> seen;

  /// Back to the states that `value` is made of.
  void trace(mlir::Value value, int64_t dim);
};

/// Names of the states that the experts of the recomposed program `forward` have: weights and biases, those of all
/// experts in one or of a single one each.
llvm::SetVector<mlir::StringAttr> statesOfExperts(mlir::func::FuncOp forward);

} // namespace moe::ir::recompose

#endif // MOEC_PASSES_RECOMPOSE_EXPERTSTATES_H
