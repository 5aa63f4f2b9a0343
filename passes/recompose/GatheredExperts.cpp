//===- GatheredExperts.cpp - Products with weights that are gathered for each choice ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The form in which batched exports have their experts: weights [E,N,M] gathered by the chosen experts [T] to [T,N,M],
// a product with rows [T,M], more of the kind, and at the end a sum over the choices of each token with the weights of
// the router.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/ExpertRows.h"
#include "passes/recompose/Experts.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// The gather whose table are the weights of experts, if `value` is one.
GatherOp gatheredWeights(Value value) {
  auto gather = value.getDefiningOp<GatherOp>();
  return gather && typeOf(gather.getTable()).getRank() == 3 ? gather : GatherOp();
}

/// Layers of experts end in the sum of each token's choices.
struct Ending {
  /// What the sum, or the last value before it that could be followed, computes.
  Value replaced;
  /// One element per choice, or null.
  Value weight;
  int64_t perToken = 1;
};

/// What one operand of a product of a row and a number per row is, given the other.
Value otherOperand(Operation *op, Value one) {
  return op->getOperand(op->getOperand(0) == one ? 1 : 0);
}

/// Recognises sum over k of row[s,k,:] * weight[s,k] as a product with the token as its batch.
std::optional<Ending> endInProduct(DotOp dot, Value rows, int64_t count) {
  bool left = dot.getLhs() == rows;
  Value weight = left ? dot.getRhs() : dot.getLhs();
  RankedTensorType type = typeOf(rows);
  std::optional<int64_t> leading = prefixOf(type, count);
  ArrayRef<int64_t> batch = left ? dot.getLhsBatch() : dot.getRhsBatch();
  ArrayRef<int64_t> weightBatch = left ? dot.getRhsBatch() : dot.getLhsBatch();
  ArrayRef<int64_t> contract = left ? dot.getLhsContract() : dot.getRhsContract();
  ArrayRef<int64_t> weightContract = left ? dot.getRhsContract() : dot.getLhsContract();
  if (!leading || typeOf(weight).getNumElements() != count || contract.size() != 1 || contract[0] != *leading - 1 ||
      static_cast<int64_t>(batch.size()) != *leading - 1)
    return std::nullopt;
  for (auto [i, pair] : llvm::enumerate(llvm::zip_equal(batch, weightBatch)))
    if (std::get<0>(pair) != static_cast<int64_t>(i) || std::get<1>(pair) != static_cast<int64_t>(i))
      return std::nullopt;
  // Weights are numbered as choices are: behind the tokens, with nothing but dimensions of one elsewhere.
  if (weightContract[0] < static_cast<int64_t>(batch.size()))
    return std::nullopt;
  return Ending{dot, weight, type.getDimSize(contract[0])};
}

/// Follows the only use of `rows`, a value per choice, to the sum over the choices of a token.
Ending findEnding(Value rows, int64_t count) {
  Ending ending{rows, {}, 1};
  while (ending.replaced.hasOneUse()) {
    Value value = ending.replaced;
    Operation *user = *value.user_begin();
    if (auto reshape = dyn_cast<ReshapeOp>(user); reshape && prefixOf(reshape.getType(), count)) {
      ending.replaced = reshape;
    } else if (auto product = dyn_cast<MulOp>(user); product && !ending.weight) {
      ending.weight = repeatedAlongRows(otherOperand(product, value), count);
      if (!ending.weight)
        return ending;
      ending.replaced = product;
    } else if (auto sum = dyn_cast<ReduceOp>(user); sum && sum.getKind() == ReduceKind::Sum) {
      std::optional<int64_t> leading = prefixOf(typeOf(value), count);
      if (!leading || sum.getDims() != ArrayRef<int64_t>{*leading - 1})
        return ending;
      return {sum, ending.weight, typeOf(value).getDimSize(*leading - 1)};
    } else if (auto dot = dyn_cast<DotOp>(user); dot && !ending.weight) {
      return endInProduct(dot, value, count).value_or(ending);
    } else {
      return ending;
    }
  }
  return ending;
}

/// A bias that is gathered as the weights are, or the value itself where none is added.
Value withBias(Value rows, Value index) {
  if (!rows.hasOneUse())
    return rows;
  Operation *user = *rows.user_begin();
  if (isa<ReshapeOp>(user) && typeOf(user->getResult(0)).getRank() >= 2) {
    Value further = withBias(user->getResult(0), index);
    return further == user->getResult(0) ? rows : further;
  }
  if (!isa<AddOp>(user))
    return rows;
  auto bias = behindReshapes(otherOperand(user, rows)).getDefiningOp<GatherOp>();
  return bias && behindReshapes(bias.getIndex()) == behindReshapes(index) ? user->getResult(0) : rows;
}

bool recompose(DotOp dot, RowTables tables) {
  GatherOp gather = gatheredWeights(dot.getLhs());
  if (!gather)
    gather = gatheredWeights(dot.getRhs());
  if (!gather)
    return false;
  Value index = gather.getIndex();
  int64_t count = typeOf(index).getNumElements(), experts = typeOf(gather.getTable()).getDimSize(0);
  Value root = withBias(dot, index);
  Ending ending = findEnding(root, count);
  OpBuilder builder(ending.replaced.getDefiningOp());
  ExpertRows rows(TensorBuilder(builder, ending.replaced.getLoc()), index, count, 1, experts, true, tables,
                  ending.perToken);
  if (!rows.isProduct(dot))
    return false;
  Value products = rows.rowsOf({root});
  TensorBuilder b(builder, ending.replaced.getLoc());
  Value sum = b.reshape(rows.combine(products, ending.weight, ending.perToken), typeOf(ending.replaced).getShape());
  ending.replaced.replaceAllUsesWith(sum);
  return true;
}

} // namespace

void recomposeGatheredExperts(func::FuncOp function, RowTables tables) {
  Block &block = function.getBody().front();
  llvm::SetVector<Operation *> tried;
  // The last product of a layer takes those before it along.
  for (bool changed = true; changed;) {
    changed = false;
    for (Operation &op : llvm::reverse(block))
      if (auto dot = dyn_cast<DotOp>(op); dot && tried.insert(&op)) {
        changed = recompose(dot, tables);
        if (changed)
          break;
      }
    eraseUnused(block);
  }
}

} // namespace moe::ir
