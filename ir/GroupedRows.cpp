//===- GroupedRows.cpp - Routing that drops nothing: rows in blocks of one expert ---------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/GroupedRows.h"

#include "ir/Infer.h"

#include <algorithm>

using namespace mlir;

namespace moe::ir {

int64_t mostBlocks(int64_t choices, int64_t experts, int64_t block) {
  // An expert with n > 0 choices needs at most (n - 1) / block + 1 blocks.
  int64_t busy = std::min(experts, choices);
  return (choices - busy) / block + busy;
}

/// Numbers of choices of a group are scattered as float32 (DecomposeRows.cpp).
static constexpr int64_t kMostChoices = int64_t{1} << 24;

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
  auto parts = static_cast<int64_t>(adaptor.getParts());
  if (expert.getRank() != 3 || expert.getElementType() != i32 || expert.getNumElements() == 0)
    return emitOptionalError(loc, "group_rows needs experts [groups, tokens, choices] of i32, got ", expert);
  if (experts < 1 || block < 1)
    return emitOptionalError(loc, "group_rows needs experts and rows in a block, got ", experts, " and ", block);
  if (parts < 1 || experts % parts != 0)
    return emitOptionalError(loc, "group_rows cannot make ", parts, " parts of ", experts, " experts");
  if (expert.getDimSize(1) * expert.getDimSize(2) > kMostChoices)
    return emitOptionalError(loc, "group_rows numbers at most ", kMostChoices, " choices of a group, got ", expert);
  int64_t groups = expert.getDimSize(0);
  int64_t blocks = parts * mostBlocks(expert.getDimSize(1) * expert.getDimSize(2), experts / parts, block);
  results.assign(
      {expert, RankedTensorType::get({1, groups, blocks * block}, i32), RankedTensorType::get({groups, blocks}, i32)});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

//===----------------------------------------------------------------------------------------------------------------===//
// grouped_dot
//===----------------------------------------------------------------------------------------------------------------===//

namespace {

/// Rows of a table [G,R] in blocks [G,B], with weights of `experts` experts.
struct BlockShape {
  int64_t groups, rows, blocks, experts;
  /// Attributes of grouped_dot.
  int64_t partExperts, parts;

  /// Rows that products are expected to have if each expert is chosen equally often: the choices, and half a block for
  /// each expert. Empty blocks are skipped.
  double expectedRows() const {
    const int64_t block = rows / blocks;
    const int64_t inPart = partExperts == 0 ? experts : partExperts, here = experts / inPart;
    const int64_t partBlocks = blocks / here, padded = std::min(inPart, partBlocks);
    const int64_t choices = std::max(partBlocks, partBlocks * block - padded * (block - 1));
    const double expected = static_cast<double>(choices) / static_cast<double>(parts) +
                            static_cast<double>(padded) * static_cast<double>(block - 1) / 2;
    return static_cast<double>(groups * here) * std::min(expected, static_cast<double>(partBlocks * block));
  }
};

bool isBlockTable(RankedTensorType rows, RankedTensorType blocks) {
  return rows.getRank() == 3 && blocks.getRank() == 2 && blocks.getElementType().isInteger(32) &&
         blocks.getDimSize(0) == rows.getDimSize(0) && blocks.getDimSize(1) != 0 &&
         rows.getDimSize(1) % blocks.getDimSize(1) == 0;
}

/// `experts` weights for blocks in parts, as attributes of grouped_dot tell.
LogicalResult verifyParts(std::optional<Location> loc, StringRef name, RankedTensorType blocks, int64_t experts,
                          int64_t partExperts, int64_t parts, bool separate) {
  if (partExperts < 0 || parts < 1 ||
      (partExperts > 0 &&
       (separate || experts % partExperts != 0 || blocks.getDimSize(1) % (experts / partExperts) != 0)))
    return emitOptionalError(loc, name, " cannot have blocks ", blocks, " of parts of ", partExperts,
                             " experts with weights of ", experts, separate ? " separate" : "", " experts");
  return success();
}

} // namespace

/// Where rows are in parts, those of a part and the weights of its experts are cut together.
LayoutRule layoutRule(GroupedDotOp::Adaptor op) {
  bool separate = typeOf(op.getWeights()[0]).getRank() == 2, inParts = op.getPartExperts() > 0;
  StringRef weight = separate  ? (op.getTransposed() ? "nm" : "mn")
                     : inParts ? (op.getTransposed() ? "rnm" : "rmn")
                               : (op.getTransposed() ? ".nm" : ".mn");
  SmallVector<StringRef> operands{"grm", "gr"};
  operands.append(op.getWeights().size(), weight);
  SmallVector<unsigned, 2> weights;
  for (unsigned i = 2; i < operands.size(); ++i)
    weights.push_back(i);
  return LayoutRule::parse(operands, {"grn"}).summing("m").linearIn({0}).linearIn(std::move(weights));
}
LayoutRule GroupedDotOp::getLayoutRule() {
  return layoutRule(Adaptor(getOperation()->getOperands(), *this));
}

LogicalResult GroupedDotOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                             SmallVectorImpl<Type> &results) {
  RankedTensorType rows = typeOf(adaptor.getRows()), blocks = typeOf(adaptor.getBlockExpert());
  if (!isBlockTable(rows, blocks))
    return emitOptionalError(
        loc, "grouped_dot needs rows [G,R,M] and block_expert [G,B] of i32 with R a multiple of B, got ", rows, " and ",
        blocks);
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
  if (weight.getDimSize(transposed ? rank - 1 : rank - 2) != rows.getDimSize(2))
    return emitOptionalError(loc, "grouped_dot of ", rows, " with weights ", weight, transposed ? " transposed" : "");
  const int64_t experts = rank == 2 ? static_cast<int64_t>(adaptor.getWeights().size()) : weight.getDimSize(0);
  if (failed(verifyParts(loc, "grouped_dot", blocks, experts, static_cast<int64_t>(adaptor.getPartExperts()),
                         static_cast<int64_t>(adaptor.getParts()), rank == 2)))
    return failure();
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(),
                   {rows.getDimSize(0), rows.getDimSize(1), weight.getDimSize(transposed ? rank - 2 : rank - 1)},
                   rows.getElementType(), results);
}

int64_t GroupedDotOp::experts() {
  return isSeparate() ? static_cast<int64_t>(getWeights().size()) : typeOf(getWeights()[0]).getDimSize(0);
}

Cost GroupedDotOp::getCost() {
  RankedTensorType rows = typeOf(getRows());
  const BlockShape shape{rows.getDimSize(0),
                         rows.getDimSize(1),
                         typeOf(getBlockExpert()).getDimSize(1),
                         experts(),
                         static_cast<int64_t>(getPartExperts()),
                         static_cast<int64_t>(getParts())};
  return {2.0 * shape.expectedRows() * static_cast<double>(rows.getDimSize(2) * getType().getDimSize(2)),
          bytesMoved(*this)};
}

LogicalResult GroupedDotOp::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &needed,
                                         MutableArrayRef<Value> grads) {
  Value grad = resultGrads[0];
  if (needed.test(0))
    grads[0] = GroupedDotOp::create(builder, getLoc(), grad, getBlockExpert(), getWeights(), !getTransposed(),
                                    getPartExperts(), getParts());
  constexpr int firstWeight = 2;
  if (needed.find_next(firstWeight - 1) < 0)
    return success();
  Value lhs = getTransposed() ? grad : getRows(), rhs = getTransposed() ? getRows() : grad;
  auto sums = GroupedDotWeightGradOp::create(builder, getLoc(), lhs, rhs, getBlockExpert(), experts(), isSeparate(),
                                             getPartExperts(), getParts());
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
  const bool inParts = op.getPartExperts() > 0;
  SmallVector<StringRef> results(op.getSeparate() ? op.getExperts() : 1, op.getSeparate() ? "mn"
                                                                         : inParts        ? "rmn"
                                                                                          : ".mn");
  return LayoutRule::parse({"grm", "grn", "gr"}, results).summing(inParts ? "g" : "gr").linearIn({0}).linearIn({1});
}
LayoutRule GroupedDotWeightGradOp::getLayoutRule() {
  return layoutRule(Adaptor(getOperation()->getOperands(), *this));
}

LogicalResult GroupedDotWeightGradOp::inferReturnTypes(MLIRContext *, std::optional<Location> loc, Adaptor adaptor,
                                                       SmallVectorImpl<Type> &results) {
  RankedTensorType lhs = typeOf(adaptor.getLhs()), rhs = typeOf(adaptor.getRhs());
  RankedTensorType blocks = typeOf(adaptor.getBlockExpert());
  auto experts = static_cast<int64_t>(adaptor.getExperts());
  if (!isBlockTable(lhs, blocks) || rhs.getRank() != 3 ||
      lhs.getShape().take_front(2) != rhs.getShape().take_front(2) || lhs.getElementType() != rhs.getElementType() ||
      experts < 1)
    return emitOptionalError(loc, "grouped_dot_weight_grad of ", lhs, " and ", rhs, " in blocks ", blocks, " of ",
                             experts, " experts");
  if (failed(verifyParts(loc, "grouped_dot_weight_grad", blocks, experts,
                         static_cast<int64_t>(adaptor.getPartExperts()), static_cast<int64_t>(adaptor.getParts()),
                         adaptor.getSeparate())))
    return failure();
  SmallVector<int64_t> shape{lhs.getDimSize(2), rhs.getDimSize(2)};
  if (!adaptor.getSeparate())
    shape.insert(shape.begin(), experts);
  results.assign(adaptor.getSeparate() ? experts : 1, RankedTensorType::get(shape, lhs.getElementType()));
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

Cost GroupedDotWeightGradOp::getCost() {
  RankedTensorType lhs = typeOf(getLhs());
  const BlockShape shape{lhs.getDimSize(0),
                         lhs.getDimSize(1),
                         typeOf(getBlockExpert()).getDimSize(1),
                         static_cast<int64_t>(getExperts()),
                         static_cast<int64_t>(getPartExperts()),
                         static_cast<int64_t>(getParts())};
  return {2.0 * shape.expectedRows() * static_cast<double>(lhs.getDimSize(2) * typeOf(getRhs()).getDimSize(2)),
          bytesMoved(*this)};
}

} // namespace moe::ir
