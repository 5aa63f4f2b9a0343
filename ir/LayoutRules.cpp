//===- LayoutRules.cpp - The layout rule of each operation --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/LayoutRules.h"

#include "ir/Reshard.h"
#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

namespace {

using Dims = LayoutRule::Dims;
using Sets = ArrayRef<SmallVector<unsigned, 2>>;

int64_t rankOf(Value value) {
  return typeOf(value).getRank();
}

/// Factors first, first + 1, …, one per dimension.
Dims distinct(int64_t rank, int first = 0) {
  return llvm::to_vector<4>(llvm::seq<int>(first, first + static_cast<int>(rank)));
}

Dims joined(Dims a, ArrayRef<int> b) {
  a.append(b.begin(), b.end());
  return a;
}

/// One operand, one result, linear: the rule of everything that moves elements around.
LayoutRule moving(Dims operand, Dims result) {
  LayoutRule rule;
  rule.operands = {std::move(operand)};
  rule.results = {std::move(result)};
  return std::move(rule).linearIn({0});
}

/// Elementwise but for the last dimension, which is needed whole.
LayoutRule alongRows(Value like, unsigned results) {
  LayoutRule rule = LayoutRule::elementwise(rankOf(like), 1, results);
  for (Dims *dims : {&rule.operands[0], &rule.results[0], &rule.results[results - 1]})
    dims->back() = LayoutRule::whole;
  return rule;
}

} // namespace

LayoutRule elementwiseRule(Value like, unsigned operands, Sets linear) {
  LayoutRule rule = LayoutRule::elementwise(rankOf(like), operands);
  rule.linear.assign(linear.begin(), linear.end());
  return rule;
}

//===----------------------------------------------------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------------------------------------------------===//

#define MOE_ELEMENTWISE(OP, ...)                                                                                       \
  LayoutRule OP::getLayoutRule() {                                                                                     \
    return elementwiseRule(getOperation()->getOperand(0), getOperation()->getNumOperands(), Sets{__VA_ARGS__});        \
  }
using Set = SmallVector<unsigned, 2>;
MOE_ELEMENTWISE(NegOp, Set{0})
MOE_ELEMENTWISE(AbsOp)
MOE_ELEMENTWISE(ExpOp)
MOE_ELEMENTWISE(LogOp)
MOE_ELEMENTWISE(SqrtOp)
MOE_ELEMENTWISE(RsqrtOp)
MOE_ELEMENTWISE(TanhOp)
MOE_ELEMENTWISE(ErfOp)
MOE_ELEMENTWISE(SigmoidOp)
MOE_ELEMENTWISE(SinOp)
MOE_ELEMENTWISE(CosOp)
MOE_ELEMENTWISE(ReluOp)
MOE_ELEMENTWISE(GeluOp)
MOE_ELEMENTWISE(NotOp)
MOE_ELEMENTWISE(IsFiniteOp)
MOE_ELEMENTWISE(ScaleGradientOp, Set{0})
MOE_ELEMENTWISE(CompareOp)
MOE_ELEMENTWISE(SelectOp, Set{1, 2})

#define MOE_BINARY(OP, ...)                                                                                            \
  template <> LayoutRule binaryRule<OP>(Value like) {                                                                  \
    return elementwiseRule(like, 2, Sets{__VA_ARGS__});                                                                \
  }                                                                                                                    \
  LayoutRule OP::getLayoutRule() {                                                                                     \
    return binaryRule<OP>(getLhs());                                                                                   \
  }
MOE_BINARY(AddOp, Set{0, 1})
MOE_BINARY(SubOp, Set{0, 1})
MOE_BINARY(MulOp, Set{0}, Set{1})
MOE_BINARY(MaxOp)
MOE_BINARY(MinOp)
MOE_BINARY(PowOp)
MOE_BINARY(AndOp)
MOE_BINARY(OrOp)

/// Quotients of integers are rounded.
template <> LayoutRule binaryRule<DivOp>(Value like) {
  bool isFloat = isa<FloatType>(typeOf(like).getElementType());
  return elementwiseRule(like, 2, isFloat ? Sets{Set{0}} : Sets{});
}
LayoutRule DivOp::getLayoutRule() {
  return binaryRule<DivOp>(getLhs());
}

LayoutRule layoutRule(AddNOp::Adaptor op) {
  auto all = llvm::to_vector<2>(llvm::seq<unsigned>(0, op.getInputs().size()));
  return elementwiseRule(op.getInputs().front(), op.getInputs().size(), Sets{all});
}
LayoutRule AddNOp::getLayoutRule() {
  return layoutRule(Adaptor(getOperation()->getOperands(), *this));
}

LayoutRule CastOp::getLayoutRule() {
  bool isFloat = isa<FloatType>(getInput().getType().getElementType()) && isa<FloatType>(getTo());
  return elementwiseRule(getInput(), 1, isFloat ? Sets{Set{0}} : Sets{});
}

//===----------------------------------------------------------------------------------------------------------------===//
// Sources. What depends on the index of an element in the whole tensor knows where its part lies (`PlaceDependent`).
//===----------------------------------------------------------------------------------------------------------------===//

LayoutRule DropoutOp::getLayoutRule() {
  LayoutRule rule = LayoutRule::elementwise(rankOf(getInput()), 1);
  rule.operands.push_back({LayoutRule::whole});
  return std::move(rule).linearIn({0});
}

LayoutRule RandomUniformOp::getLayoutRule() {
  LayoutRule rule;
  rule.operands = {{LayoutRule::whole}};
  rule.results = {distinct(getType().getRank())};
  return rule;
}

/// Zeros are also the sum of zeros.
LayoutRule ConstantOp::getLayoutRule() {
  LayoutRule rule;
  auto floats = dyn_cast<DenseFPElementsAttr>(getValue());
  rule.free = floats && floats.isSplat() && floats.getSplatValue<APFloat>().isZero();
  rule.results = {getValue().isSplat() ? distinct(getType().getRank()) : Dims(getType().getRank(), LayoutRule::whole)};
  return rule;
}

void ConstantOp::localize() {
  auto splat = dyn_cast<DenseElementsAttr>(getValue());
  if (splat && splat.isSplat())
    setValueAttr(cast<ElementsAttr>(
        static_cast<Attribute>(DenseElementsAttr::get(getType(), splat.getSplatValue<Attribute>()))));
  else if (splat)
    setValueAttr(cast<ElementsAttr>(static_cast<Attribute>(splat.reshape(getType()))));
}

LayoutRule IotaOp::getLayoutRule() {
  LayoutRule rule;
  rule.results = {distinct(getType().getRank())};
  return rule;
}

//===----------------------------------------------------------------------------------------------------------------===//
// Tensor algebra
//===----------------------------------------------------------------------------------------------------------------===//

#define MOE_BY_ADAPTOR(OP)                                                                                             \
  LayoutRule OP::getLayoutRule() {                                                                                     \
    return layoutRule(Adaptor(getOperation()->getOperands(), *this));                                                  \
  }

LayoutRule BroadcastOp::getLayoutRule() {
  Dims operand;
  for (int64_t dim : getDims())
    operand.push_back(static_cast<int>(dim));
  return moving(operand, distinct(getType().getRank()));
}

namespace {

/// Dimensions that are cut or may be: sizes are local, so one of size 1 matters only if an axis splits it.
SmallVector<int64_t> wide(RankedTensorType type) {
  SmallVector<int64_t> dims;
  for (int64_t d = 0; d < type.getRank(); ++d)
    if (type.getDimSize(d) != 1 || isSplit(type, d))
      dims.push_back(d);
  return dims;
}

} // namespace

/// Both shapes fall into runs of dimensions with equal products. A cut of a run into contiguous equal parts is a cut of
/// its outermost dimension, on both sides.
LayoutRule ReshapeOp::getLayoutRule() {
  RankedTensorType from = typeOf(getInput()), to = getType();
  Dims operand(from.getRank(), LayoutRule::whole), result(to.getRank(), LayoutRule::whole);
  SmallVector<int64_t> dimsFrom = wide(from), dimsTo = wide(to);
  int factor = 0;
  size_t i = 0, j = 0;
  while (i < dimsFrom.size() && j < dimsTo.size()) {
    int64_t outerFrom = dimsFrom[i], outerTo = dimsTo[j];
    int64_t left = from.getDimSize(dimsFrom[i++]), right = to.getDimSize(dimsTo[j++]);
    while (left != right && (left < right ? i < dimsFrom.size() : j < dimsTo.size()))
      left < right ? left *= from.getDimSize(dimsFrom[i++]) : right *= to.getDimSize(dimsTo[j++]);
    if (left != right)
      break;
    operand[outerFrom] = result[outerTo] = factor++;
  }
  return moving(operand, result);
}

LayoutRule layoutRule(TransposeOp::Adaptor op) {
  Dims result;
  for (int64_t dim : op.getPermutation())
    result.push_back(static_cast<int>(dim));
  return moving(distinct(rankOf(op.getInput())), result);
}
MOE_BY_ADAPTOR(TransposeOp)

LayoutRule layoutRule(SliceOp::Adaptor op) {
  RankedTensorType type = typeOf(op.getInput());
  Dims dims = distinct(type.getRank());
  for (int64_t d = 0; d < type.getRank(); ++d)
    if (op.getStarts()[d] != 0 || op.getLimits()[d] != type.getDimSize(d) || op.getStrides()[d] != 1)
      dims[d] = LayoutRule::whole;
  return moving(dims, dims);
}
MOE_BY_ADAPTOR(SliceOp)

/// Only dimensions that are taken whole may be split.
void SliceOp::localize() {
  SmallVector<int64_t> limits(getLimits());
  for (auto [limit, size] : llvm::zip_equal(limits, typeOf(getInput()).getShape()))
    limit = std::min(limit, size);
  setLimits(limits);
}

LayoutRule layoutRule(PadOp::Adaptor op) {
  Dims dims = distinct(rankOf(op.getInput()));
  for (auto [d, factor] : llvm::enumerate(dims))
    if (op.getLow()[d] != 0 || op.getHigh()[d] != 0 || op.getInterior()[d] != 0)
      factor = LayoutRule::whole;
  return moving(dims, dims);
}
MOE_BY_ADAPTOR(PadOp)

LayoutRule layoutRule(ConcatOp::Adaptor op) {
  unsigned count = op.getInputs().size();
  LayoutRule rule = LayoutRule::elementwise(rankOf(op.getInputs().front()), count);
  for (Dims &dims : rule.operands)
    dims[op.getDim()] = LayoutRule::whole;
  rule.results[0][op.getDim()] = LayoutRule::whole;
  return std::move(rule).linearIn(llvm::to_vector<2>(llvm::seq<unsigned>(0, count)));
}
MOE_BY_ADAPTOR(ConcatOp)

LayoutRule layoutRule(ReduceOp::Adaptor op) {
  LayoutRule rule;
  rule.operands = {distinct(rankOf(op.getInput()))};
  rule.results.emplace_back();
  bool isSum = op.getKind() == ReduceKind::Sum;
  for (auto [d, factor] : llvm::enumerate(rule.operands[0]))
    if (!llvm::is_contained(op.getDims(), static_cast<int64_t>(d)))
      rule.results[0].push_back(factor);
    else if (isSum)
      rule.summed.push_back(factor);
    else
      factor = LayoutRule::whole;
  if (isSum)
    rule.linear.push_back({0});
  return rule;
}
MOE_BY_ADAPTOR(ReduceOp)

LayoutRule CumsumOp::getLayoutRule() {
  Dims dims = distinct(rankOf(getInput()));
  dims[getDim()] = LayoutRule::whole;
  return moving(dims, dims);
}

LayoutRule SortOp::getLayoutRule() {
  return alongRows(getInput(), 2);
}

LayoutRule layoutRule(DotOp::Adaptor op) {
  Dims lhs = distinct(rankOf(op.getLhs()));
  Dims rhs = distinct(rankOf(op.getRhs()), static_cast<int>(lhs.size()));
  LayoutRule rule;
  Dims result;
  for (auto [l, r] : llvm::zip_equal(op.getLhsBatch(), op.getRhsBatch()))
    result.push_back(rhs[r] = lhs[l]);
  for (auto [l, r] : llvm::zip_equal(op.getLhsContract(), op.getRhsContract()))
    rule.summed.push_back(rhs[r] = lhs[l]);
  for (const Dims &dims : {lhs, rhs})
    for (int factor : dims)
      if (!llvm::is_contained(result, factor) && !llvm::is_contained(rule.summed, factor))
        result.push_back(factor);
  rule.operands = {lhs, rhs};
  rule.results = {result};
  return std::move(rule).linearIn({0}).linearIn({1});
}
MOE_BY_ADAPTOR(DotOp)

LayoutRule layoutRule(GatherOp::Adaptor op) {
  int64_t indexRank = rankOf(op.getIndex()), tableRank = rankOf(op.getTable());
  Dims index = distinct(indexRank), row = distinct(tableRank - 1, static_cast<int>(indexRank));
  LayoutRule rule;
  rule.operands = {joined({LayoutRule::whole}, row), index};
  rule.results = {joined(index, row)};
  return std::move(rule).linearIn({0});
}
MOE_BY_ADAPTOR(GatherOp)

/// Parts of the index add up to partial tables. What they start from then is partial too: a whole `init` would count
/// once per rank.
LayoutRule scatterAddRule(int64_t indexRank, int64_t tableRank, bool hasInit) {
  Dims index = distinct(indexRank);
  Dims row = distinct(tableRank - 1, static_cast<int>(indexRank)), table = joined({LayoutRule::whole}, row);
  LayoutRule rule;
  rule.operands = {index, joined(index, row)};
  rule.results = {table};
  rule.summed.assign(index.begin(), index.end());
  if (!hasInit)
    return std::move(rule).linearIn({1});
  rule.operands.push_back(table);
  rule.partialWith.assign(index.begin(), index.end());
  rule.partialOperands = {2};
  return std::move(rule).linearIn({1, 2});
}
LayoutRule ScatterAddOp::getLayoutRule() {
  return scatterAddRule(rankOf(getIndex()), getType().getRank(), static_cast<bool>(getInit()));
}

//===----------------------------------------------------------------------------------------------------------------===//
// Transformers
//===----------------------------------------------------------------------------------------------------------------===//

LayoutRule SoftmaxOp::getLayoutRule() {
  return alongRows(getInput(), 1);
}

LayoutRule layoutRule(LayerNormOp::Adaptor op) {
  Dims rows = distinct(rankOf(op.getInput()) - 1), input = joined(rows, {LayoutRule::whole});
  LayoutRule rule;
  rule.operands = {input, {LayoutRule::whole}, {LayoutRule::whole}};
  rule.results = {input, rows, rows};
  return rule;
}
MOE_BY_ADAPTOR(LayerNormOp)

LayoutRule layoutRule(RmsNormOp::Adaptor op) {
  Dims rows = distinct(rankOf(op.getInput()) - 1), input = joined(rows, {LayoutRule::whole});
  LayoutRule rule;
  rule.operands = {input, {LayoutRule::whole}};
  rule.results = {input, rows};
  return rule;
}
MOE_BY_ADAPTOR(RmsNormOp)

LayoutRule layoutRule(SoftmaxCrossEntropyOp::Adaptor op) {
  Dims rows = distinct(rankOf(op.getLabels()));
  LayoutRule rule;
  rule.operands = {joined(rows, {LayoutRule::whole}), rows};
  rule.results = {rows, rows};
  return rule;
}
MOE_BY_ADAPTOR(SoftmaxCrossEntropyOp)

/// Splitting heads splits those of keys and values too. Scores that only fine operations can compute, and those with
/// sinks, which are whole, are split by sequences alone.
LayoutRule layoutRule(AttentionOp::Adaptor op) {
  bool fine = op.getBias() || op.getSinks();
  StringRef heads = fine ? "b..." : "b.h.";
  SmallVector<StringRef> operands(3, heads);
  if (op.getPadding())
    operands.push_back("b.");
  if (op.getRng())
    operands.push_back(".");
  std::string bias;
  if (op.getBias()) {
    for (int64_t dim : op.getBiasDims())
      bias += dim == 0 ? 'b' : '.';
    operands.push_back(bias);
  }
  if (op.getSinks())
    operands.push_back(".");
  return LayoutRule::parse(operands, {heads, fine ? "b.." : "bh."});
}
MOE_BY_ADAPTOR(AttentionOp)

LayoutRule layoutRule(AttentionBackwardOp::Adaptor op) {
  StringRef heads = "b.h.";
  SmallVector<StringRef> operands(5, heads);
  operands.push_back("bh.");
  if (op.getPadding())
    operands.push_back("b.");
  if (op.getRng())
    operands.push_back(".");
  return LayoutRule::parse(operands, {heads, heads, heads}).linearIn({0});
}
MOE_BY_ADAPTOR(AttentionBackwardOp)

//===----------------------------------------------------------------------------------------------------------------===//
// Routing: groups are independent of each other; capacity and order need all tokens and experts of a group.
//===----------------------------------------------------------------------------------------------------------------===//

LayoutRule layoutRule(RouteOp::Adaptor op) {
  SmallVector<StringRef> operands{"g.."};
  if (op.getMask())
    operands.push_back("g.");
  if (op.getNoise())
    operands.push_back(rankOf(op.getNoise()) == 3 ? "g.." : "g.");
  return LayoutRule::parse(operands, {"g..", "g..", "g..", ".g.", "g", "g..", "g.", "g."});
}
MOE_BY_ADAPTOR(RouteOp)

LayoutRule layoutRule(RouteBackwardOp::Adaptor) {
  return LayoutRule::parse({"g..", "g", "g..", "g..", "g..", "g."}, {"g.."}).linearIn({0, 1});
}
MOE_BY_ADAPTOR(RouteBackwardOp)

/// Tokens are named by indices, so they stay whole; experts and slots are cut by cutting the indices.
LayoutRule layoutRule(DispatchOp::Adaptor op) {
  SmallVector<StringRef> operands{"g.m", "g..", "g..", "egc"};
  if (op.getWeight())
    operands.push_back("g..");
  LayoutRule rule = LayoutRule::parse(operands, {"egcm"}).partialAlong("ec", {1, 2}).linearIn({0});
  if (op.getWeight())
    rule.linear.push_back({4});
  return rule;
}
MOE_BY_ADAPTOR(DispatchOp)

LayoutRule layoutRule(CombineOp::Adaptor op) {
  SmallVector<StringRef> operands{"egcm", "g..", "g..", "egc"};
  if (op.getWeight())
    operands.push_back("g..");
  LayoutRule rule = LayoutRule::parse(operands, {"g.m"}).summing("ec").partialAlong("ec", {1, 2}).linearIn({0});
  if (op.getWeight())
    rule.linear.push_back({4});
  return rule;
}
MOE_BY_ADAPTOR(CombineOp)

LayoutRule layoutRule(RoutedDotOp::Adaptor) {
  return LayoutRule::parse({"g.m", "egcm", "g..", "g.."}, {"g.."})
      .summing("mec")
      .partialAlong("ec", {2, 3})
      .linearIn({0})
      .linearIn({1});
}
MOE_BY_ADAPTOR(RoutedDotOp)

//===----------------------------------------------------------------------------------------------------------------===//
// States and regions: the state and the operations of the body have the say.
//===----------------------------------------------------------------------------------------------------------------===//

static LayoutRule anyLayout() {
  LayoutRule rule;
  rule.free = true;
  return rule;
}
LayoutRule ReadOp::getLayoutRule() {
  return anyLayout();
}
LayoutRule WriteOp::getLayoutRule() {
  return anyLayout();
}
LayoutRule FusedOp::getLayoutRule() {
  return anyLayout();
}

} // namespace moe::ir
