//===- GroupedRows.cpp - Routing that drops nothing: rows in blocks of one expert ---------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/GroupedRows.h"

#include "ir/Infer.h"
#include "ir/TensorBuilder.h"

#include <algorithm>

using namespace mlir;

namespace moe::ir {

int64_t mostBlocks(int64_t choices, int64_t experts, int64_t block) {
  // An expert with n > 0 choices needs at most (n - 1) / block + 1 blocks.
  int64_t busy = std::min(experts, choices);
  return (choices - busy) / block + busy;
}

//===----------------------------------------------------------------------------------------------------------------===//
// group_rows
//===----------------------------------------------------------------------------------------------------------------===//

LayoutRule layoutRule(GroupRowsOp::Adaptor) {
  return LayoutRule::parse({"g.."}, {"g..", ".g.", "g."});
}
LayoutRule GroupRowsOp::getLayoutRule() {
  return layoutRule(Adaptor(getOperation()->getOperands(), *this));
}

LogicalResult GroupRowsOp::inferReturnTypes(MLIRContext *context, std::optional<Location> loc, Adaptor adaptor,
                                            SmallVectorImpl<Type> &results) {
  RankedTensorType expert = typeOf(adaptor.getExpert());
  Type i32 = IntegerType::get(context, 32);
  auto experts = static_cast<int64_t>(adaptor.getExperts()), block = static_cast<int64_t>(adaptor.getBlock());
  if (expert.getRank() != 3 || expert.getElementType() != i32 || expert.getNumElements() == 0)
    return emitOptionalError(loc, "group_rows needs experts [groups, tokens, choices] of i32, got ", expert);
  if (experts < 1 || block < 1)
    return emitOptionalError(loc, "group_rows needs experts and rows in a block, got ", experts, " and ", block);
  int64_t groups = expert.getDimSize(0);
  int64_t blocks = mostBlocks(expert.getDimSize(1) * expert.getDimSize(2), experts, block);
  results.assign(
      {expert, RankedTensorType::get({1, groups, blocks * block}, i32), RankedTensorType::get({groups, blocks}, i32)});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

FailureOr<SmallVector<Value>> GroupRowsOp::decompose(OpBuilder &builder) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType type = typeOf(getExpert()), token = typeOf(getToken()), blocks = typeOf(getBlockExpert());
  int64_t groups = type.getDimSize(0), choices = type.getDimSize(1) * type.getDimSize(2);
  auto experts = static_cast<int64_t>(getExperts());
  auto block = static_cast<double>(getBlock());
  Value chosen = b.reshape(getExpert(), {groups, choices});
  auto count = [&](Value condition, int64_t dim) {
    RankedTensorType numbers = withElement(typeOf(condition), type.getElementType());
    return b.reduce(ReduceKind::Sum, b.select(condition, b.splat(numbers, 1), b.splat(numbers, 0)), {dim});
  };

  // Where the rows of each expert start, [G,E], in blocks: those that the experts before it take.
  SmallVector<int64_t> hits{groups, choices, experts};
  Value each = b.broadcast(chosen, hits, {0, 1});
  Value sizes = count(b.compare(ComparePredicate::EQ, each, b.iota(typeOf(each), 2)), 1);
  Value needed = b.div(b.add(sizes, block - 1), b.splatLike(sizes, block));
  Value last = CumsumOp::create(builder, getLoc(), needed, 1, false, false);
  Value first = b.sub(last, needed);

  // Slot of each choice: the start of its expert's rows, and the earlier choices of this expert.
  SmallVector<int64_t> pairs{groups, choices, choices};
  Value own = b.broadcast(chosen, pairs, {0, 1}), other = b.broadcast(chosen, pairs, {0, 2});
  Value earlier = b.compare(ComparePredicate::LT, b.iota(typeOf(own), 2), b.iota(typeOf(own), 1));
  Value before = count(b.conj(b.compare(ComparePredicate::EQ, own, other), earlier), 2);
  Value isOwn = b.compare(ComparePredicate::EQ, each, b.iota(typeOf(each), 2));
  Value starts = b.broadcast(first, hits, {0, 2});
  Value start = b.reduce(ReduceKind::Sum, b.select(isOwn, starts, b.splatLike(starts, 0)), {2});
  Value row = b.add(b.mul(start, block), before);
  Value absent = b.compare(ComparePredicate::LT, chosen, b.splatLike(chosen, 0));
  Value slot = b.select(absent, b.splatLike(row, -1), row);

  // The only choice, if any, that has each row.
  SmallVector<int64_t> places{groups, token.getDimSize(2), choices};
  Value rowOf = b.broadcast(slot, places, {0, 2});
  RankedTensorType numbers = typeOf(rowOf);
  Value holds = b.compare(ComparePredicate::EQ, rowOf, b.iota(numbers, 1));
  Value holder = b.reduce(ReduceKind::Max, b.select(holds, b.iota(numbers, 2), b.splat(numbers, -1)), {2});

  // A block belongs to the first expert whose rows end after it.
  SmallVector<int64_t> ends{groups, blocks.getDimSize(1), experts};
  Value end = b.broadcast(last, ends, {0, 2});
  Value expertOf = count(b.compare(ComparePredicate::LE, end, b.iota(typeOf(end), 1)), 2);
  Value none = b.compare(ComparePredicate::GE, expertOf, b.splatLike(expertOf, static_cast<double>(experts)));
  return SmallVector<Value>{b.reshape(slot, type.getShape()), b.reshape(holder, token.getShape()),
                            b.select(none, b.splatLike(expertOf, -1), expertOf)};
}

//===----------------------------------------------------------------------------------------------------------------===//
// grouped_dot
//===----------------------------------------------------------------------------------------------------------------===//

LayoutRule layoutRule(GroupedDotOp::Adaptor op) {
  bool separate = typeOf(op.getWeights()[0]).getRank() == 2;
  StringRef weight = op.getTransposed() ? (separate ? "nm" : ".nm") : (separate ? "mn" : ".mn");
  SmallVector<StringRef> operands{"rm", "r"};
  operands.append(op.getWeights().size(), weight);
  SmallVector<unsigned, 2> weights;
  for (unsigned i = 2; i < operands.size(); ++i)
    weights.push_back(i);
  return LayoutRule::parse(operands, {"rn"}).summing("m").linearIn({0}).linearIn(std::move(weights));
}
LayoutRule GroupedDotOp::getLayoutRule() {
  return layoutRule(Adaptor(getOperation()->getOperands(), *this));
}

LogicalResult GroupedDotOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                             SmallVectorImpl<Type> &results) {
  RankedTensorType rows = typeOf(adaptor.getRows()), blocks = typeOf(adaptor.getBlockExpert());
  if (rows.getRank() != 2 || blocks.getRank() != 1 || blocks.getDimSize(0) == 0 ||
      rows.getDimSize(0) % blocks.getDimSize(0) != 0 || !blocks.getElementType().isInteger(32))
    return emitOptionalError(loc,
                             "grouped_dot needs rows [R,M] and block_expert [B] of i32 with R a multiple of B, got ",
                             rows, " and ", blocks);
  if (adaptor.getWeights().empty())
    return emitOptionalError(loc, "grouped_dot needs weights");
  RankedTensorType weight = typeOf(adaptor.getWeights()[0]);
  int64_t rank = weight.getRank();
  if (weight.getElementType() != rows.getElementType() || (rank != 2 && rank != 3) ||
      (rank == 3 && adaptor.getWeights().size() != 1))
    return emitOptionalError(loc, "grouped_dot needs one weight [E,M,N], or one [M,N] for each expert, of the type of ",
                             rows, ", got ", weight);
  for (Value other : adaptor.getWeights())
    if (other.getType() != weight)
      return emitOptionalError(loc, "grouped_dot has weights of different types: ", weight, " and ", other.getType());
  bool transposed = adaptor.getTransposed();
  if (weight.getDimSize(transposed ? rank - 1 : rank - 2) != rows.getDimSize(1))
    return emitOptionalError(loc, "grouped_dot of ", rows, " with weights ", weight, transposed ? " transposed" : "");
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(),
                   {rows.getDimSize(0), weight.getDimSize(transposed ? rank - 2 : rank - 1)}, rows.getElementType(),
                   results);
}

int64_t GroupedDotOp::experts() {
  return isSeparate() ? static_cast<int64_t>(getWeights().size()) : typeOf(getWeights()[0]).getDimSize(0);
}

Cost GroupedDotOp::getCost() {
  return {2.0 * static_cast<double>(typeOf(getRows()).getNumElements()) * static_cast<double>(getType().getDimSize(1)),
          bytesMoved(*this)};
}

LogicalResult GroupedDotOp::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &needed,
                                         MutableArrayRef<Value> grads) {
  Value grad = resultGrads[0];
  if (needed.test(0))
    grads[0] = GroupedDotOp::create(builder, getLoc(), grad, getBlockExpert(), getWeights(), !getTransposed());
  constexpr int firstWeight = 2;
  if (needed.find_next(firstWeight - 1) < 0)
    return success();
  Value lhs = getTransposed() ? grad : getRows(), rhs = getTransposed() ? getRows() : grad;
  auto sums = GroupedDotWeightGradOp::create(builder, getLoc(), lhs, rhs, getBlockExpert(), experts(), isSeparate());
  for (auto [i, sum] : llvm::enumerate(sums.getGrads()))
    if (needed.test(firstWeight + static_cast<unsigned>(i)))
      grads[firstWeight + i] = sum;
  return success();
}

AdjointReads GroupedDotOp::adjointReads() {
  return AdjointReads::everything(*this);
}

//===----------------------------------------------------------------------------------------------------------------===//
// grouped_dot_weight_grad
//===----------------------------------------------------------------------------------------------------------------===//

LayoutRule layoutRule(GroupedDotWeightGradOp::Adaptor op) {
  SmallVector<StringRef> results(op.getSeparate() ? op.getExperts() : 1, op.getSeparate() ? "mn" : ".mn");
  return LayoutRule::parse({"rm", "rn", "r"}, results).summing("r").linearIn({0}).linearIn({1});
}
LayoutRule GroupedDotWeightGradOp::getLayoutRule() {
  return layoutRule(Adaptor(getOperation()->getOperands(), *this));
}

LogicalResult GroupedDotWeightGradOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                                       SmallVectorImpl<Type> &results) {
  RankedTensorType lhs = typeOf(adaptor.getLhs()), rhs = typeOf(adaptor.getRhs());
  RankedTensorType blocks = typeOf(adaptor.getBlockExpert());
  auto experts = static_cast<int64_t>(adaptor.getExperts());
  if (lhs.getRank() != 2 || rhs.getRank() != 2 || lhs.getDimSize(0) != rhs.getDimSize(0) ||
      lhs.getElementType() != rhs.getElementType() || blocks.getRank() != 1 || blocks.getDimSize(0) == 0 ||
      lhs.getDimSize(0) % blocks.getDimSize(0) != 0 || !blocks.getElementType().isInteger(32) || experts < 1)
    return emitOptionalError(loc, "grouped_dot_weight_grad of ", lhs, " and ", rhs, " in blocks ", blocks, " of ",
                             experts, " experts");
  SmallVector<int64_t> shape{lhs.getDimSize(1), rhs.getDimSize(1)};
  if (!adaptor.getSeparate())
    shape.insert(shape.begin(), experts);
  results.assign(adaptor.getSeparate() ? experts : 1, RankedTensorType::get(shape, lhs.getElementType()));
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

Cost GroupedDotWeightGradOp::getCost() {
  return {2.0 * static_cast<double>(typeOf(getLhs()).getNumElements()) *
              static_cast<double>(typeOf(getRhs()).getDimSize(1)),
          bytesMoved(*this)};
}

} // namespace moe::ir
