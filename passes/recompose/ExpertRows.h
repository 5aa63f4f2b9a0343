//===- ExpertRows.h - What a graph computes per choice of an expert, in rows sorted by expert ---------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Exports of layers of experts compute per choice (a token and one of its experts): products with weights gathered for
// each choice, or the layer of every expert on all tokens with most of the results weighted by zero. Here the same
// values are computed in the rows that `moe.group_rows` lays out, where products are `moe.grouped_dot`.
//
// A value of the graph is written as its *forms*: one value whose leading dimensions count the choices (its operations
// gather what belongs to an expert), or one value per expert whose leading dimensions count the tokens. Rows that hold
// no choice have numbers that nothing reads; operations that could make them infinite are not moved into rows.
//
// Rows are [G,R,...]: tables of R rows, one for each group of neighbouring tokens (`RowTables`). As nothing is dropped,
// numbers do not depend on how many there are.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_EXPERTROWS_H
#define MOEC_PASSES_RECOMPOSE_EXPERTROWS_H

#include "ir/TensorBuilder.h"

#include <map>
#include <optional>
#include <vector>

namespace moe::ir {

using Forms = llvm::SmallVector<mlir::Value>;

/// What to prepare for ranks that will have a part of the rows each.
struct RowTables {
  /// Groups of tokens; one where tokens do not divide.
  int64_t groups = 1;
  /// Parts of each table, each with some of the experts; if experts do not divide, there are that many more groups.
  int64_t parts = 1;
};

/// `value` behind reshapes.
mlir::Value behindReshapes(mlir::Value value);

/// Number of leading dimensions of `type` that hold `count` elements together; the fewest.
std::optional<int64_t> prefixOf(mlir::RankedTensorType type, int64_t count);

/// The tensor of `count` elements that `value` repeats along all but its leading dimensions, or null.
mlir::Value repeatedAlongRows(mlir::Value value, int64_t count);

class ExpertRows {
public:
  /// `index`: integers, of which `perToken` neighbours belong to each of `tokens` tokens, below `experts`; a negative
  /// one chooses none. If `gathered`, forms are single values of tokens * perToken leading elements that gather by
  /// `index`; otherwise there is one form per expert, of `tokens` leading elements. Tables are for groups of whole
  /// multiples of `together` tokens, those that `combine` adds up.
  ExpertRows(TensorBuilder builder, mlir::Value index, int64_t tokens, int64_t perToken, int64_t experts, bool gathered,
             RowTables tables, int64_t together = 1);

  /// Whether the product with the weights of one expert depends on the choice.
  bool isProduct(mlir::Value value) const;
  /// The rows [G, R, ...] of a value, or null where they can not be computed (a flag that comes from outside).
  mlir::Value rowsOf(const Forms &forms);
  /// The sum over `perToken` neighbouring choices of rows [G, R, ...], each times its `weight` if there is one (a
  /// tensor of one element per choice): [T / perToken, ...].
  mlir::Value combine(mlir::Value rows, mlir::Value weight, int64_t perToken);

private:
  struct Sides;
  std::optional<Sides> sidesOf(DotOp dot) const;
  bool dependsOnExpert(const Forms &forms);
  mlir::Value compute(const Forms &forms);
  mlir::Value leaf(const Forms &forms);
  mlir::Value elementwise(const Forms &forms);
  mlir::Value product(const Forms &forms);
  mlir::Value gatheredProduct(DotOp dot);
  mlir::Value separateProduct(const Forms &forms);
  mlir::Value gatheredRow(GatherOp gather);
  mlir::Value broadcast(const Forms &forms);
  mlir::Value reshape(const Forms &forms);
  mlir::Value slice(const Forms &forms);
  mlir::Value concat(const Forms &forms);
  mlir::Value multiply(mlir::Value rows, llvm::ArrayRef<mlir::Value> weights, bool transposed);
  mlir::Value perExpert(mlir::Value table);
  mlir::Value joined(llvm::ArrayRef<mlir::Value> weights);
  mlir::Value dispatch(mlir::Value value, int64_t tokens, int64_t perToken);
  /// Leading dimensions of a form.
  int64_t prefix(mlir::Value form) const;
  /// Shape of the rows of a form.
  llvm::SmallVector<int64_t> rowShape(mlir::Value form) const;
  /// Shape of one number per choice.
  llvm::SmallVector<int64_t> choiceShape(int64_t tokens, int64_t perToken) const;
  mlir::Value zeroExperts(int64_t tokens, int64_t perToken);

  TensorBuilder b;
  mlir::Value index;
  int64_t count, perForm, choices, experts;
  RowTables tables;
  int64_t block = 0, rows = 0; ///< of each table
  bool gathered;
  mlir::Value slot, token, blockExpert;
  std::map<std::vector<void *>, mlir::Value> known;
  std::map<void *, bool> dependent;
};

} // namespace moe::ir

#endif // MOEC_PASSES_RECOMPOSE_EXPERTROWS_H
