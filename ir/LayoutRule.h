//===- LayoutRule.h - How the dimensions of operands and results hang together ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A rule names the dimensions of operands and results as an einsum does: dimensions under one name (a *factor*) are cut
// together. From the rule and the layouts of the operands follow the layouts of the results, axis by axis:
//
//   * an axis that splits a factor splits it in every operand that has it; results that have the factor are split
//     there, results that are sums over it become `partial`;
//   * an axis on which operands are `partial` is allowed if the operation is linear in exactly these operands; results
//     are `partial`;
//   * on all other axes everything is `replicate`.
//
// Types hold local shapes, so a rule never speaks of sizes.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_LAYOUTRULE_H
#define MOEC_IR_LAYOUTRULE_H

#include "mlir/IR/Location.h"
#include "mlir/IR/Operation.h"

namespace moe::ir {

struct LayoutRule {
  /// Factor of a dimension that no axis may split.
  static constexpr int whole = -1;
  /// Factor of each dimension of one tensor.
  using Dims = llvm::SmallVector<int, 4>;

  llvm::SmallVector<Dims, 4> operands, results;
  /// Factors over which a result sums: splitting them makes every result without them partial.
  llvm::SmallVector<int, 2> summed;
  /// Sets of operands; all results are linear in the operands of one set together while the others are fixed.
  llvm::SmallVector<llvm::SmallVector<unsigned, 2>, 2> linear;
  /// Where an axis splits one of the factors `partialWith`, the operands `partialOperands` must be partial on it: what
  /// a sum starts from, or indices of which each rank has those into its own part (see `own_slots`).
  llvm::SmallVector<int, 2> partialWith;
  llvm::SmallVector<unsigned, 2> partialOperands;
  /// The operation takes any layout, since its types are stated elsewhere (states, bodies of fused regions).
  bool free = false;

  /// From text, where a letter is a factor and '.' a whole dimension: `parse({"b.h.", "b."}, {"b.h.", "bh."})`.
  static LayoutRule parse(llvm::ArrayRef<llvm::StringRef> operands, llvm::ArrayRef<llvm::StringRef> results);
  /// All operands and results have the same dimensions, each of its own factor.
  static LayoutRule elementwise(int64_t rank, unsigned operands, unsigned results = 1);

  LayoutRule &&linearIn(llvm::SmallVector<unsigned, 2> set) &&;
  LayoutRule &&summing(llvm::StringRef factors) &&;
  LayoutRule &&partialAlong(llvm::StringRef factors, llvm::SmallVector<unsigned, 2> operands) &&;
};

/// Gives `results` (types without a layout) the layouts that follow from those of the operands. Fails, at `loc` if
/// there is one, with the operand at fault, the layouts and what would be accepted.
llvm::LogicalResult inferLayouts(std::optional<mlir::Location> loc, const LayoutRule &rule, mlir::TypeRange operands,
                                 llvm::MutableArrayRef<mlir::Type> results);

/// Type of the gradient of a value: `replicate` and `partial` change places.
mlir::RankedTensorType dualType(mlir::RankedTensorType type);

/// Whether the layouts of an operation's types obey its rule; reports the operation otherwise. An axis may also split
/// factors that only results have: of a repeated value each rank makes its own part.
llvm::LogicalResult verifyLayouts(mlir::Operation *op);

} // namespace moe::ir

#endif // MOEC_IR_LAYOUTRULE_H
