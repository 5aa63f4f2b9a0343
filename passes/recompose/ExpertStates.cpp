//===- ExpertStates.cpp - The parameters that experts have --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/ExpertStates.h"

using namespace mlir;

namespace moe::ir::recompose {
namespace {

template <typename Callback> void eachDim(ArrayRef<int> dims, int factor, Callback callback) {
  for (auto [d, other] : llvm::enumerate(dims))
    if (other == factor)
      callback(static_cast<int64_t>(d));
}

/// The states that `value` is made of without arithmetic: stored otherwise, rounded, joined.
void addReads(Value value, llvm::SetVector<StringAttr> &names) {
  Operation *op = value.getDefiningOp();
  if (auto read = dyn_cast_if_present<ReadOp>(op))
    names.insert(read.getStateAttr().getAttr());
  else if (isa_and_present<CastOp, TransposeOp, ReshapeOp, ConcatOp, SliceOp>(op))
    for (Value operand : op->getOperands())
      addReads(operand, names);
}

/// Whether `index` says the expert of each block of rows.
bool isOfBlocks(Value index) {
  while (auto reshape = index.getDefiningOp<ReshapeOp>())
    index = reshape.getInput();
  auto table = index.getDefiningOp<GroupRowsOp>();
  return table && index == table.getBlockExpert();
}

} // namespace

void ExpertStates::follow(Value value, int64_t dim) {
  if (!seen.insert({value, dim}).second)
    return;
  for (OpOperand &use : value.getUses()) {
    Operation *user = use.getOwner();
    auto described = dyn_cast<MoeOpInterface>(user);
    if (!described || isa<CombineOp>(user))
      continue;
    const LayoutRule rule = described.getLayoutRule();
    if (rule.free)
      continue;
    const int factor = rule.operands[use.getOperandNumber()][dim];
    if (factor == LayoutRule::whole)
      continue;
    for (auto [i, dims] : llvm::enumerate(rule.operands))
      if (i != use.getOperandNumber())
        eachDim(dims, factor, [&](int64_t d) { trace(user->getOperand(i), d); });
    for (auto [i, dims] : llvm::enumerate(rule.results))
      eachDim(dims, factor, [&](int64_t d) { follow(user->getResult(i), d); });
  }
}

void ExpertStates::trace(Value value, int64_t dim) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert({value, dim}).second)
    return;
  if (auto read = dyn_cast<ReadOp>(op)) {
    found.insert({read.getStateAttr().getAttr(), dim});
    return;
  }
  if (auto join = dyn_cast<ConcatOp>(op); join && static_cast<int64_t>(join.getDim()) == dim) {
    joins.insert(join);
    return;
  }
  const LayoutRule rule = cast<MoeOpInterface>(op).getLayoutRule();
  if (rule.free)
    return;
  const int factor = rule.results[cast<OpResult>(value).getResultNumber()][dim];
  if (factor == LayoutRule::whole)
    return;
  for (auto [i, dims] : llvm::enumerate(rule.operands))
    eachDim(dims, factor, [&](int64_t d) { trace(op->getOperand(i), d); });
}

llvm::SetVector<StringAttr> statesOfExperts(func::FuncOp forward) {
  llvm::SetVector<StringAttr> names;
  ExpertStates stacked;
  forward.walk([&](Operation *op) {
    // Rows of capacity have a dimension of experts; those in blocks name their expert.
    if (auto dispatch = dyn_cast<DispatchOp>(op); dispatch && typeOf(dispatch.getRows()).getDimSize(0) > 1)
      stacked.follow(dispatch.getRows(), 0);
    if (auto product = dyn_cast<GroupedDotOp>(op))
      for (Value weight : product.getWeights())
        addReads(weight, names);
    if (auto bias = dyn_cast<GatherOp>(op); bias && isOfBlocks(bias.getIndex()))
      addReads(bias.getTable(), names);
  });
  for (const auto &state : stacked.found)
    names.insert(state.first);
  for (ConcatOp join : stacked.joins)
    addReads(join, names);
  return names;
}

} // namespace moe::ir::recompose
