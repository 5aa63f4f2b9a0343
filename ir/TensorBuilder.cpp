//===- TensorBuilder.cpp - Writes tensor algebra like algebra ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

RankedTensorType wholeOrSplit(RankedTensorType type) {
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  if (!layout)
    return type;
  SmallVector<int32_t> kinds(layout.getKinds());
  for (int32_t &kind : kinds)
    if (static_cast<AxisKind>(kind) == AxisKind::Partial)
      kind = static_cast<int32_t>(AxisKind::Replicate);
  return RankedTensorType::get(type.getShape(), type.getElementType(),
                               LayoutAttr::get(type.getContext(), layout.getAxes(), kinds, layout.getDims()));
}

Value TensorBuilder::splat(RankedTensorType type, double value) {
  if (value != 0)
    type = wholeOrSplit(type);
  Type element = type.getElementType();
  Attribute scalar = isa<FloatType>(element) ? Attribute(builder.getFloatAttr(element, value))
                                             : Attribute(builder.getIntegerAttr(element, static_cast<int64_t>(value)));
  return ConstantOp::create(builder, loc, type, cast_if_present<ElementsAttr>(DenseElementsAttr::get(type, scalar)));
}

Value TensorBuilder::cast(Value a, Type elementType) {
  if (typeOf(a).getElementType() == elementType)
    return a;
  return make<CastOp>(a, elementType);
}

Value TensorBuilder::broadcast(Value a, ArrayRef<int64_t> shape, ArrayRef<int64_t> dims) {
  return broadcastLike(a, RankedTensorType::get(shape, typeOf(a).getElementType()), dims);
}

Value TensorBuilder::broadcastLike(Value a, RankedTensorType like, ArrayRef<int64_t> dims) {
  if (typeOf(a).getShape() == like.getShape())
    return a;
  auto from = dyn_cast_if_present<LayoutAttr>(typeOf(a).getEncoding());
  auto model = dyn_cast_if_present<LayoutAttr>(like.getEncoding());
  if (!from)
    return make<BroadcastOp>(withShape(typeOf(a), like.getShape()), a, dims);
  SmallVector<int32_t> kinds(from.getKinds());
  SmallVector<int64_t> axisDims(from.getDims());
  for (unsigned axis = 0; axis < kinds.size(); ++axis) {
    if (from.kind(axis) == AxisKind::Shard)
      axisDims[axis] = dims[axisDims[axis]];
    if (from.kind(axis) == AxisKind::Replicate && model && model.kind(axis) == AxisKind::Shard &&
        !llvm::is_contained(dims, model.getDims()[axis])) {
      kinds[axis] = static_cast<int32_t>(AxisKind::Shard);
      axisDims[axis] = model.getDims()[axis];
    }
  }
  auto layout = LayoutAttr::get(builder.getContext(), from.getAxes(), kinds, axisDims);
  return make<BroadcastOp>(RankedTensorType::get(like.getShape(), typeOf(a).getElementType(), layout), a, dims);
}

Value TensorBuilder::broadcastScalar(Value scalar, Value like) {
  return broadcastLike(scalar, typeOf(like), {});
}

Value TensorBuilder::broadcastRows(Value a, Value like) {
  return broadcastLike(a, typeOf(like), llvm::to_vector(llvm::seq<int64_t>(0, typeOf(a).getRank())));
}

Value TensorBuilder::broadcastLast(Value a, Value like) {
  return broadcastLike(a, typeOf(like), {typeOf(like).getRank() - 1});
}

Value TensorBuilder::reshape(Value a, ArrayRef<int64_t> shape) {
  if (typeOf(a).getShape() == shape)
    return a;
  return make<ReshapeOp>(withShape(typeOf(a), shape), a);
}

Value TensorBuilder::reshapeLike(Value a, RankedTensorType like) {
  auto from = dyn_cast_if_present<LayoutAttr>(typeOf(a).getEncoding());
  auto to = dyn_cast_if_present<LayoutAttr>(like.getEncoding());
  if (!from || !to)
    return reshape(a, like.getShape());
  SmallVector<int64_t> dims(from.getDims());
  for (unsigned axis = 0; axis < dims.size(); ++axis)
    if (from.kind(axis) == AxisKind::Shard)
      dims[axis] = to.getDims()[axis];
  auto layout = LayoutAttr::get(builder.getContext(), from.getAxes(), from.getKinds(), dims);
  auto type = RankedTensorType::get(like.getShape(), typeOf(a).getElementType(), layout);
  return type == a.getType() ? a : make<ReshapeOp>(type, a);
}

Value TensorBuilder::transpose(Value a, ArrayRef<int64_t> permutation) {
  if (llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size())))
    return a;
  return make<TransposeOp>(a, permutation);
}

Value TensorBuilder::reduce(ReduceKind kind, Value a, ArrayRef<int64_t> dims) {
  if (dims.empty())
    return a;
  return make<ReduceOp>(a, kind, dims);
}

Value TensorBuilder::reduceLast(ReduceKind kind, Value a) {
  return reduce(kind, a, {typeOf(a).getRank() - 1});
}

Value TensorBuilder::sumAll(Value a) {
  return reduce(ReduceKind::Sum, a, llvm::to_vector(llvm::seq<int64_t>(0, typeOf(a).getRank())));
}

Value TensorBuilder::dot(Value a, Value b, ArrayRef<int64_t> aBatch, ArrayRef<int64_t> bBatch,
                         ArrayRef<int64_t> aContract, ArrayRef<int64_t> bContract) {
  return make<DotOp>(a, b, aBatch, bBatch, aContract, bContract);
}

Value TensorBuilder::iota(RankedTensorType type, int64_t dim) {
  return make<IotaOp>(type, dim);
}

} // namespace moe::ir
