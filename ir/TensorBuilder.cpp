//===- TensorBuilder.cpp - Writes tensor algebra like algebra ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

Value TensorBuilder::splat(RankedTensorType type, double value) {
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
  if (typeOf(a).getShape() == shape)
    return a;
  return make<BroadcastOp>(withShape(typeOf(a), shape), a, dims);
}

Value TensorBuilder::broadcastScalar(Value scalar, Value like) {
  return broadcast(scalar, typeOf(like).getShape(), {});
}

Value TensorBuilder::broadcastRows(Value a, Value like) {
  return broadcast(a, typeOf(like).getShape(), llvm::to_vector(llvm::seq<int64_t>(0, typeOf(a).getRank())));
}

Value TensorBuilder::broadcastLast(Value a, Value like) {
  return broadcast(a, typeOf(like).getShape(), {typeOf(like).getRank() - 1});
}

Value TensorBuilder::reshape(Value a, ArrayRef<int64_t> shape) {
  if (typeOf(a).getShape() == shape)
    return a;
  return make<ReshapeOp>(withShape(typeOf(a), shape), a);
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
