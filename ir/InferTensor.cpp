//===- InferTensor.cpp - Result types of elementwise operations and tensor algebra ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Infer.h"
#include "ir/RetypeTensors.h"
#include "ir/TensorBuilder.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

LogicalResult inferLike(std::optional<Location> loc, const LayoutRule &rule, ValueRange operands,
                        ArrayRef<int64_t> shape, Type element, SmallVectorImpl<Type> &results) {
  results.push_back(RankedTensorType::get(shape, element));
  return inferLayouts(loc, rule, operands, MutableArrayRef(results).take_back());
}

/// Whether types are equal but for their layouts.
static bool sameButLayout(Type a, Type b) {
  auto x = cast<RankedTensorType>(a), y = cast<RankedTensorType>(b);
  return x.getShape() == y.getShape() && x.getElementType() == y.getElementType();
}

bool arePermutation(ArrayRef<int64_t> dims, int64_t rank) {
  if (static_cast<int64_t>(dims.size()) != rank)
    return false;
  SmallVector<int64_t> sorted(dims);
  llvm::sort(sorted);
  return llvm::equal(sorted, llvm::seq<int64_t>(0, rank));
}

bool areDistinctDims(ArrayRef<int64_t> dims, int64_t rank) {
  llvm::SmallBitVector seen(rank);
  for (int64_t dim : dims) {
    if (dim < 0 || dim >= rank || seen.test(dim))
      return false;
    seen.set(dim);
  }
  return true;
}

//===----------------------------------------------------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------------------------------------------------===//

#define MOE_INFER(OP)                                                                                                  \
  LogicalResult OP::inferReturnTypes(MLIRContext *context, std::optional<Location> loc, Adaptor adaptor,               \
                                     SmallVectorImpl<Type> &results)

#define MOE_INFER_UNARY(OP)                                                                                            \
  MOE_INFER(OP) {                                                                                                      \
    results.push_back(adaptor.getInput().getType());                                                                   \
    return success();                                                                                                  \
  }
MOE_INFER_UNARY(NegOp)
MOE_INFER_UNARY(AbsOp)
MOE_INFER_UNARY(ExpOp)
MOE_INFER_UNARY(LogOp)
MOE_INFER_UNARY(SqrtOp)
MOE_INFER_UNARY(RsqrtOp)
MOE_INFER_UNARY(TanhOp)
MOE_INFER_UNARY(ErfOp)
MOE_INFER_UNARY(SigmoidOp)
MOE_INFER_UNARY(SinOp)
MOE_INFER_UNARY(CosOp)
MOE_INFER_UNARY(ReluOp)
MOE_INFER_UNARY(GeluOp)
MOE_INFER_UNARY(NotOp)
MOE_INFER_UNARY(ScaleGradientOp)

MOE_INFER(SoftmaxOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  if (type.getRank() == 0 || type.getShape().back() == 0)
    return emitOptionalError(loc, "softmax needs a dimension, got ", type);
  results.push_back(type);
  return success();
}

/// Whether a binary operation is defined on elements of the type.
template <typename Op> static bool takes(Type element) {
  if constexpr (std::is_same_v<Op, PowOp>)
    return isa<FloatType>(element);
  else if constexpr (std::is_same_v<Op, AndOp> || std::is_same_v<Op, OrOp>)
    return isa<IntegerType>(element);
  else
    return true;
}

#define MOE_INFER_BINARY(OP)                                                                                           \
  MOE_INFER(OP) {                                                                                                      \
    if (!sameButLayout(adaptor.getLhs().getType(), adaptor.getRhs().getType()))                                        \
      return emitOptionalError(loc, "'", OP::getOperationName(), "' needs operands of one type, got ",                 \
                               adaptor.getLhs().getType(), " and ", adaptor.getRhs().getType());                       \
    if (!takes<OP>(typeOf(adaptor.getLhs()).getElementType()))                                                         \
      return emitOptionalError(loc, "'", OP::getOperationName(), "' is not defined on ", adaptor.getLhs().getType());  \
    RankedTensorType type = typeOf(adaptor.getLhs());                                                                  \
    return inferLike(loc, binaryRule<OP>(adaptor.getLhs()), adaptor.getOperands(), type.getShape(),                    \
                     type.getElementType(), results);                                                                  \
  }
MOE_INFER_BINARY(AddOp)
MOE_INFER_BINARY(SubOp)
MOE_INFER_BINARY(MulOp)
MOE_INFER_BINARY(DivOp)
MOE_INFER_BINARY(MaxOp)
MOE_INFER_BINARY(MinOp)
MOE_INFER_BINARY(PowOp)
MOE_INFER_BINARY(AndOp)
MOE_INFER_BINARY(OrOp)

MOE_INFER(AddNOp) {
  if (adaptor.getInputs().empty())
    return emitOptionalError(loc, "'moe.add_n' needs at least one operand");
  RankedTensorType type = typeOf(adaptor.getInputs().front());
  for (Value input : adaptor.getInputs())
    if (!sameButLayout(input.getType(), type))
      return emitOptionalError(loc, "'moe.add_n' needs operands of one type, got ", type, " and ", input.getType());
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(), type.getShape(), type.getElementType(), results);
}

MOE_INFER(IsFiniteOp) {
  results.push_back(withElement(typeOf(adaptor.getInput()), IntegerType::get(context, 1)));
  return success();
}

MOE_INFER(CompareOp) {
  if (!sameButLayout(adaptor.getLhs().getType(), adaptor.getRhs().getType()))
    return emitOptionalError(loc, "'moe.compare' needs operands of one type, got ", adaptor.getLhs().getType(), " and ",
                             adaptor.getRhs().getType());
  results.push_back(withElement(typeOf(adaptor.getLhs()), IntegerType::get(context, 1)));
  return success();
}

MOE_INFER(SelectOp) {
  if (!sameButLayout(adaptor.getLhs().getType(), adaptor.getRhs().getType()))
    return emitOptionalError(loc, "'moe.select' needs alternatives of one type, got ", adaptor.getLhs().getType(),
                             " and ", adaptor.getRhs().getType());
  if (typeOf(adaptor.getCondition()).getShape() != typeOf(adaptor.getLhs()).getShape())
    return emitOptionalError(loc, "'moe.select' needs a condition of the shape of its alternatives");
  results.push_back(adaptor.getLhs().getType());
  return success();
}

MOE_INFER(CastOp) {
  Type to = adaptor.getTo();
  if (!to.isIntOrFloat())
    return emitOptionalError(loc, "'moe.cast' to ", to, ", which is neither integer nor floating point");
  results.push_back(withElement(typeOf(adaptor.getInput()), to));
  return success();
}

/// (num_updates, micro-batch index), what every random operation is keyed by.
LogicalResult verifyRng(std::optional<Location> loc, Value rng) {
  RankedTensorType type = typeOf(rng);
  if (type.getShape() != ArrayRef<int64_t>{2} || !type.getElementType().isInteger(64))
    return emitOptionalError(loc, "rng must be tensor<2xi64> (num_updates, micro-batch), got ", type);
  return success();
}

MOE_INFER(DropoutOp) {
  double rate = adaptor.getRate().convertToDouble();
  if (!(rate >= 0.0 && rate < 1.0))
    return emitOptionalError(loc, "dropout rate ", rate, " is outside [0, 1)");
  results.push_back(adaptor.getInput().getType());
  return verifyRng(loc, adaptor.getRng());
}

//===----------------------------------------------------------------------------------------------------------------===//
// Tensor algebra
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult ConstantOp::verify() {
  if (cast<ShapedType>(getValue().getType()) != getType())
    return emitOpError() << "holds a value of type " << getValue().getType() << ", not " << getType();
  return success();
}

OpFoldResult ConstantOp::fold(FoldAdaptor) {
  return getValue();
}

LogicalResult IotaOp::verify() {
  if (getDim() >= static_cast<uint64_t>(getType().getRank()))
    return emitOpError() << "dim " << getDim() << " is outside rank " << getType().getRank();
  return success();
}

LogicalResult RandomUniformOp::verify() {
  auto whole = (*this)->getAttrOfType<DenseI64ArrayAttr>(kWholeShapeAttr);
  if (!whole)
    return verifyRng(getLoc(), getRng());
  RankedTensorType rng = typeOf(getRng());
  if (rng.getShape() != ArrayRef<int64_t>{3} || !rng.getElementType().isInteger(64))
    return emitOpError() << "for a part needs rng tensor<3xi64> (num_updates, micro-batch, first element), got " << rng;
  if (whole.size() != getType().getRank() ||
      llvm::any_of(llvm::zip_equal(whole.asArrayRef(), getType().getShape()),
                   [](auto pair) { return std::get<0>(pair) < std::get<1>(pair); }))
    return emitOpError() << "is a part of a tensor that is smaller: " << getType() << " of " << whole;
  return success();
}

LogicalResult BroadcastOp::verify() {
  RankedTensorType from = typeOf(getInput()), to = getType();
  ArrayRef<int64_t> dims = getDims();
  if (static_cast<int64_t>(dims.size()) != from.getRank())
    return emitOpError() << "needs one entry of dims per operand dimension";
  if (from.getElementType() != to.getElementType())
    return emitOpError() << "changes the element type: " << from << " to " << to;
  for (int64_t i = 0; i < from.getRank(); ++i) {
    if (dims[i] < 0 || dims[i] >= to.getRank() || (i > 0 && dims[i] <= dims[i - 1]))
      return emitOpError() << "dims must increase strictly and stay below rank " << to.getRank();
    if (from.getDimSize(i) != to.getDimSize(dims[i]))
      return emitOpError() << "dimension " << i << " has size " << from.getDimSize(i) << ", but dimension " << dims[i]
                           << " of the result has size " << to.getDimSize(dims[i]);
  }
  return success();
}

LogicalResult ReshapeOp::verify() {
  RankedTensorType from = typeOf(getInput()), to = getType();
  if (from.getNumElements() != to.getNumElements() || from.getElementType() != to.getElementType())
    return emitOpError() << "must keep elements and element type: " << from << " to " << to;
  return success();
}

OpFoldResult ReshapeOp::fold(FoldAdaptor) {
  if (getInput().getType() == getType())
    return getInput();
  if (auto inner = getInput().getDefiningOp<ReshapeOp>(); inner && inner.getInput().getType() == getType())
    return inner.getInput();
  return {};
}

MOE_INFER(TransposeOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  if (!arePermutation(adaptor.getPermutation(), type.getRank()))
    return emitOptionalError(loc, "permutation must name each of ", type.getRank(), " dimensions once");
  SmallVector<int64_t> shape;
  for (int64_t dim : adaptor.getPermutation())
    shape.push_back(type.getDimSize(dim));
  return inferLike(loc, layoutRule(adaptor), adaptor.getInput(), shape, type.getElementType(), results);
}

MOE_INFER(SliceOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  ArrayRef<int64_t> starts = adaptor.getStarts(), limits = adaptor.getLimits(), strides = adaptor.getStrides();
  size_t rank = type.getRank();
  if (starts.size() != rank || limits.size() != rank || strides.size() != rank)
    return emitOptionalError(loc, "slice needs one start, limit and stride per dimension of ", type);
  SmallVector<int64_t> shape;
  for (size_t d = 0; d < rank; ++d) {
    if (starts[d] < 0 || limits[d] < starts[d] || limits[d] > type.getDimSize(d) || strides[d] < 1)
      return emitOptionalError(loc, "slice [", starts[d], ", ", limits[d], ") step ", strides[d], " of dimension ", d,
                               " does not fit ", type);
    shape.push_back((limits[d] - starts[d] + strides[d] - 1) / strides[d]);
  }
  return inferLike(loc, layoutRule(adaptor), adaptor.getInput(), shape, type.getElementType(), results);
}

MOE_INFER(PadOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  ArrayRef<int64_t> low = adaptor.getLow(), high = adaptor.getHigh(), interior = adaptor.getInterior();
  size_t rank = type.getRank();
  if (low.size() != rank || high.size() != rank || interior.size() != rank)
    return emitOptionalError(loc, "pad needs low, high and interior per dimension of ", type);
  SmallVector<int64_t> shape;
  for (size_t d = 0; d < rank; ++d) {
    if (low[d] < 0 || high[d] < 0 || interior[d] < 0)
      return emitOptionalError(loc, "pad amounts of dimension ", d, " must not be negative");
    int64_t size = type.getDimSize(d);
    shape.push_back(low[d] + high[d] + size + std::max<int64_t>(size - 1, 0) * interior[d]);
  }
  return inferLike(loc, layoutRule(adaptor), adaptor.getInput(), shape, type.getElementType(), results);
}

MOE_INFER(ConcatOp) {
  if (adaptor.getInputs().empty())
    return emitOptionalError(loc, "'moe.concat' needs at least one operand");
  RankedTensorType first = typeOf(adaptor.getInputs().front());
  int64_t dim = adaptor.getDim();
  if (dim < 0 || dim >= first.getRank())
    return emitOptionalError(loc, "concat dimension ", dim, " is outside rank ", first.getRank());
  SmallVector<int64_t> shape(first.getShape());
  shape[dim] = 0;
  for (Value input : adaptor.getInputs()) {
    RankedTensorType type = typeOf(input);
    if (type.getRank() != first.getRank() || type.getElementType() != first.getElementType())
      return emitOptionalError(loc, "concat of ", first, " and ", type);
    for (int64_t d = 0; d < type.getRank(); ++d)
      if (d != dim && type.getDimSize(d) != first.getDimSize(d))
        return emitOptionalError(loc, "concat operands differ in dimension ", d, ": ", first, " and ", type);
    shape[dim] += type.getDimSize(dim);
  }
  return inferLike(loc, layoutRule(adaptor), adaptor.getInputs(), shape, first.getElementType(), results);
}

MOE_INFER(ReduceOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  if (!areDistinctDims(adaptor.getDims(), type.getRank()))
    return emitOptionalError(loc, "reduce dimensions must be distinct and below rank ", type.getRank());
  SmallVector<int64_t> shape;
  for (int64_t d = 0; d < type.getRank(); ++d) {
    if (!llvm::is_contained(adaptor.getDims(), d))
      shape.push_back(type.getDimSize(d));
    else if (type.getDimSize(d) == 0 && adaptor.getKind() != ReduceKind::Sum)
      return emitOptionalError(loc, "maximum or minimum of nothing: dimension ", d, " is empty");
  }
  return inferLike(loc, layoutRule(adaptor), adaptor.getInput(), shape, type.getElementType(), results);
}

MOE_INFER(CumsumOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  int64_t dim = adaptor.getDim();
  if (dim < 0 || dim >= type.getRank())
    return emitOptionalError(loc, "cumsum dimension ", dim, " is outside rank ", type.getRank());
  results.push_back(type);
  return success();
}

MOE_INFER(SortOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  if (type.getRank() == 0)
    return emitOptionalError(loc, "sort needs a dimension");
  results.push_back(type);
  results.push_back(withElement(type, IntegerType::get(context, 32)));
  return success();
}

MOE_INFER(DotOp) {
  RankedTensorType lhs = typeOf(adaptor.getLhs()), rhs = typeOf(adaptor.getRhs());
  ArrayRef<int64_t> lb = adaptor.getLhsBatch(), rb = adaptor.getRhsBatch(), lc = adaptor.getLhsContract(),
                    rc = adaptor.getRhsContract();
  if (lhs.getElementType() != rhs.getElementType())
    return emitOptionalError(loc, "dot of different element types: ", lhs, " and ", rhs);
  if (lb.size() != rb.size() || lc.size() != rc.size())
    return emitOptionalError(loc, "dot needs as many lhs as rhs dimensions to batch and to contract");
  SmallVector<int64_t> lhsUsed(lb), rhsUsed(rb), shape;
  llvm::append_range(lhsUsed, lc);
  llvm::append_range(rhsUsed, rc);
  if (!areDistinctDims(lhsUsed, lhs.getRank()) || !areDistinctDims(rhsUsed, rhs.getRank()))
    return emitOptionalError(loc, "dot dimensions must be distinct and inside ", lhs, " and ", rhs);
  for (auto [l, r] : llvm::zip_equal(lhsUsed, rhsUsed))
    if (lhs.getDimSize(l) != rhs.getDimSize(r))
      return emitOptionalError(loc, "dot pairs dimension ", l, " of ", lhs, " with dimension ", r, " of ", rhs);
  for (int64_t d : lb)
    shape.push_back(lhs.getDimSize(d));
  for (int64_t d = 0; d < lhs.getRank(); ++d)
    if (!llvm::is_contained(lhsUsed, d))
      shape.push_back(lhs.getDimSize(d));
  for (int64_t d = 0; d < rhs.getRank(); ++d)
    if (!llvm::is_contained(rhsUsed, d))
      shape.push_back(rhs.getDimSize(d));
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(), shape, lhs.getElementType(), results);
}

static SmallVector<int64_t> freeDims(int64_t rank, ArrayRef<int64_t> batch, ArrayRef<int64_t> contract) {
  SmallVector<int64_t> free;
  for (int64_t d = 0; d < rank; ++d)
    if (!llvm::is_contained(batch, d) && !llvm::is_contained(contract, d))
      free.push_back(d);
  return free;
}

SmallVector<int64_t> DotOp::lhsFree() {
  return freeDims(typeOf(getLhs()).getRank(), getLhsBatch(), getLhsContract());
}
SmallVector<int64_t> DotOp::rhsFree() {
  return freeDims(typeOf(getRhs()).getRank(), getRhsBatch(), getRhsContract());
}

Cost DotOp::getCost() {
  double terms = 1;
  for (int64_t d : getLhsContract())
    terms *= static_cast<double>(typeOf(getLhs()).getDimSize(d));
  return {2.0 * terms * static_cast<double>(getType().getNumElements()), bytesMoved(*this)};
}

MOE_INFER(GatherOp) {
  RankedTensorType table = typeOf(adaptor.getTable()), index = typeOf(adaptor.getIndex());
  if (table.getRank() == 0)
    return emitOptionalError(loc, "gather needs a table with rows");
  SmallVector<int64_t> shape(index.getShape());
  llvm::append_range(shape, table.getShape().drop_front());
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(), shape, table.getElementType(), results);
}

LogicalResult ScatterAddOp::verify() {
  RankedTensorType table = getType(), rows = typeOf(getRows()), index = typeOf(getIndex());
  SmallVector<int64_t> expected(index.getShape());
  if (table.getRank() == 0)
    return emitOpError() << "needs a result with rows";
  llvm::append_range(expected, table.getShape().drop_front());
  if (rows.getShape() != ArrayRef<int64_t>(expected) || rows.getElementType() != table.getElementType())
    return emitOpError() << "rows " << rows << " do not fit index " << index << " and result " << table;
  if (getInit() && getInit().getType() != table)
    return emitOpError() << "init " << getInit().getType() << " is not of the result's type " << table;
  return success();
}

} // namespace moe::ir
