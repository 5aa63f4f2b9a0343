//===- EmptySlots.cpp - More slots for the rows of experts --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "passes/EmptySlots.h"

#include "ir/Reshard.h"
#include "ir/RetypeTensors.h"
#include "ir/TensorBuilder.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Dimension of the slots in rows [E,G,C,M] and in the table of tokens [E,G,C].
constexpr int64_t kSlots = 2;

/// The values between `dispatch` and `combine` that have a dimension of slots.
class Rows {
public:
  Rows(Value token, int64_t slots) : token(token), slots(slots) {}

  /// Whether all that has to do with dimension `dim` of `value` can have more slots.
  bool follow(Value value, int64_t dim) {
    if (!values.insert({value, dim}))
      return true;
    RankedTensorType type = typeOf(value);
    Operation *op = value.getDefiningOp();
    if (!op || isSplit(type, dim) || type.getDimSize(dim) != typeOf(token).getDimSize(kSlots) ||
        !visit(op, [&](const LayoutRule &rule) { return rule.results[cast<OpResult>(value).getResultNumber()][dim]; }))
      return false;
    return llvm::all_of(value.getUses(), [&](OpOperand &use) {
      return visit(use.getOwner(), [&](const LayoutRule &rule) { return rule.operands[use.getOperandNumber()][dim]; });
    });
  }

  void lengthen(MeshAttr mesh) {
    for (Operation *op : operations)
      if (isa<DropoutOp>(op) && !op->hasAttr(kNumberedShapeAttr))
        op->setAttr(kNumberedShapeAttr,
                    OpBuilder(op).getDenseI64ArrayAttr(wholeType(typeOf(op->getResult(0)), mesh).getShape()));
    for (OpOperand *use : constants) {
      OpBuilder builder(use->getOwner());
      use->set(builder.clone(*use->get().getDefiningOp())->getResult(0));
    }
    for (OpOperand *use : constants)
      values.insert({use->get(), dims.lookup(use)});
    for (auto [value, dim] : values) {
      SmallVector<int64_t> shape(typeOf(value).getShape());
      shape[dim] = slots;
      value.setType(withShape(typeOf(value), shape));
      operations.insert(value.getDefiningOp());
    }
    for (Operation *op : operations)
      cast<MoeOpInterface>(op).localize();
  }

private:
  Value token;
  int64_t slots;
  llvm::SetVector<std::pair<Value, int64_t>> values;
  llvm::SetVector<Operation *> operations;
  /// Operands that are constants, which others may read too, and the dimension of their slots.
  SmallVector<OpOperand *> constants;
  llvm::DenseMap<OpOperand *, int64_t> dims;

  /// Follows the factor of `op` that `factorIn` its rule says.
  template <typename FactorIn> bool visit(Operation *op, FactorIn factorIn) {
    if (auto dispatch = dyn_cast<DispatchOp>(op))
      return dispatch.getToken() == token;
    if (auto combine = dyn_cast<CombineOp>(op))
      return combine.getToken() == token;
    auto described = dyn_cast<MoeOpInterface>(op);
    if (!described || (op->hasTrait<PlaceDependent>() && !isa<DropoutOp>(op)))
      return false;
    const LayoutRule rule = described.getLayoutRule();
    const int factor = rule.free ? LayoutRule::whole : factorIn(rule);
    if (factor == LayoutRule::whole || llvm::is_contained(rule.summed, factor))
      return false;
    operations.insert(op);
    for (auto [i, of] : llvm::enumerate(rule.operands))
      for (auto [d, other] : llvm::enumerate(of))
        if (other == factor && !followOperand(op->getOpOperand(i), static_cast<int64_t>(d)))
          return false;
    for (auto [i, of] : llvm::enumerate(rule.results))
      for (auto [d, other] : llvm::enumerate(of))
        if (other == factor && !follow(op->getResult(i), static_cast<int64_t>(d)))
          return false;
    return true;
  }

  bool followOperand(OpOperand &operand, int64_t dim) {
    auto constant = operand.get().getDefiningOp<ConstantOp>();
    if (!constant)
      return follow(operand.get(), dim);
    if (dims.try_emplace(&operand, dim).second)
      constants.push_back(&operand);
    return constant.getValue().isSplat();
  }
};

} // namespace

LogicalResult addEmptySlots(DispatchOp dispatch, int64_t slots, MeshAttr mesh) {
  Value token = dispatch.getToken();
  RankedTensorType type = typeOf(token);
  Rows rows(token, slots);
  for (Operation *user : token.getUsers())
    if (auto other = dyn_cast<DispatchOp>(user); other && !rows.follow(other.getRows(), kSlots))
      return failure();
  OpBuilder builder(token.getContext());
  builder.setInsertionPointAfterValue(token);
  TensorBuilder b(builder, token.getLoc());
  SmallVector<int64_t> missing(type.getShape());
  missing[kSlots] = slots - missing[kSlots];
  Value all = b.make<ConcatOp>(ValueRange{token, b.splat(withShape(type, missing), -1)}, kSlots);
  rows.lengthen(mesh);
  token.replaceUsesWithIf(all, [](OpOperand &use) { return isa<DispatchOp, CombineOp>(use.getOwner()); });
  return success();
}

} // namespace moe::ir
