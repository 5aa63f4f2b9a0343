//===- AdjointModel.cpp - Reverse-mode rules of transformer and routing operations ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

#define MOE_ADJOINT(OP)                                                                                                \
  LogicalResult OP::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &needed,       \
                                 MutableArrayRef<Value> grads)

/// Fails if a gradient arrives at a result after the first `differentiable` ones, which are statistics.
static LogicalResult rejectGradients(Operation *op, ValueRange resultGrads, ArrayRef<unsigned> results) {
  for (unsigned i : results)
    if (resultGrads[i])
      return op->emitOpError() << "has no gradient through its result #" << i
                               << ", which is meant for its own backward pass and for metrics";
  return success();
}

MOE_ADJOINT(SoftmaxOp) {
  TensorBuilder b(builder, getLoc());
  Value y = getResult(), dy = resultGrads[0];
  Value inner = b.reduceLast(ReduceKind::Sum, b.mul(dy, y));
  grads[0] = b.mul(y, b.sub(dy, b.broadcastRows(inner, y)));
  return success();
}

AdjointReads SoftmaxOp::adjointReads() {
  return AdjointReads::of(*this, {}, {0});
}

MOE_ADJOINT(LayerNormOp) {
  if (failed(rejectGradients(*this, resultGrads, {1, 2})))
    return failure();
  TensorBuilder b(builder, getLoc());
  Value x = getInput(), dy = resultGrads[0], rstd = b.broadcastRows(getRstd(), x);
  Value normal = b.mul(b.sub(x, b.broadcastRows(getMean(), x)), rstd);
  SmallVector<int64_t> leading = llvm::to_vector(llvm::seq<int64_t>(0, typeOf(x).getRank() - 1));
  if (needed.test(0)) {
    Value g = b.mul(dy, b.broadcastLast(getScale(), x));
    double inverse = 1.0 / static_cast<double>(typeOf(x).getShape().back());
    Value meanG = b.mul(b.reduceLast(ReduceKind::Sum, g), inverse);
    Value meanGN = b.mul(b.reduceLast(ReduceKind::Sum, b.mul(g, normal)), inverse);
    Value centred = b.sub(b.sub(g, b.broadcastRows(meanG, x)), b.mul(normal, b.broadcastRows(meanGN, x)));
    grads[0] = b.mul(centred, rstd);
  }
  if (needed.test(1))
    grads[1] = b.reduce(ReduceKind::Sum, b.mul(dy, normal), leading);
  if (needed.test(2))
    grads[2] = b.reduce(ReduceKind::Sum, dy, leading);
  return success();
}

AdjointReads LayerNormOp::adjointReads() {
  return AdjointReads::of(*this, {0, 1}, {1, 2});
}

MOE_ADJOINT(RmsNormOp) {
  if (failed(rejectGradients(*this, resultGrads, {1})))
    return failure();
  TensorBuilder b(builder, getLoc());
  Value x = getInput(), dy = resultGrads[0], rstd = b.broadcastRows(getRstd(), x), normal = b.mul(x, rstd);
  if (needed.test(0)) {
    Value g = b.mul(dy, b.broadcastLast(getScale(), x));
    double inverse = 1.0 / static_cast<double>(typeOf(x).getShape().back());
    Value meanGN = b.mul(b.reduceLast(ReduceKind::Sum, b.mul(g, normal)), inverse);
    grads[0] = b.mul(b.sub(g, b.mul(normal, b.broadcastRows(meanGN, x))), rstd);
  }
  if (needed.test(1))
    grads[1] =
        b.reduce(ReduceKind::Sum, b.mul(dy, normal), llvm::to_vector(llvm::seq<int64_t>(0, typeOf(x).getRank() - 1)));
  return success();
}

AdjointReads RmsNormOp::adjointReads() {
  return AdjointReads::of(*this, {0, 1}, {1});
}

MOE_ADJOINT(SoftmaxCrossEntropyOp) {
  if (failed(rejectGradients(*this, resultGrads, {1})))
    return failure();
  TensorBuilder b(builder, getLoc());
  RankedTensorType type = typeOf(getLogits());
  Value labels = getLabels();
  Value counted = b.compare(ComparePredicate::NE, labels, b.splatLike(labels, static_cast<int64_t>(getIgnoreIndex())));
  Value scale = b.select(counted, resultGrads[0], b.splatLike(resultGrads[0], 0.0));
  Value probability = b.exp(b.sub(getLogits(), b.broadcastRows(getLse(), getLogits())));
  Type i32 = builder.getI32Type();
  Value column = b.iota(withElement(type, i32), type.getRank() - 1);
  Value hit = b.compare(ComparePredicate::EQ, column, b.broadcastRows(b.cast(labels, i32), column));
  Value target = b.cast(hit, type.getElementType());
  grads[0] = b.mul(b.sub(probability, target), b.broadcastRows(scale, getLogits()));
  return success();
}

AdjointReads SoftmaxCrossEntropyOp::adjointReads() {
  return AdjointReads::of(*this, {0, 1}, {1});
}

MOE_ADJOINT(RouteOp) {
  if (failed(rejectGradients(*this, resultGrads, {0, 1, 3, 5, 6, 7})))
    return failure();
  // The noise decides between experts and has no gradient.
  if (!needed.test(0))
    return success();
  TensorBuilder b(builder, getLoc());
  Value dWeight = resultGrads[2] ? resultGrads[2] : b.splat(dualType(typeOf(getWeight())), 0.0);
  Value dAux = resultGrads[4] ? resultGrads[4] : b.splat(dualType(typeOf(getAux())), 0.0);
  grads[0] = b.make<RouteBackwardOp>(dWeight, dAux, getProbs(), getExpert(), getSlot(), getFirstFraction(),
                                     getNormalizeBeforeDropping());
  return success();
}

AdjointReads RouteOp::adjointReads() {
  return AdjointReads::of(*this, {}, {0, 1, 5, 6});
}

MOE_ADJOINT(DispatchOp) {
  TensorBuilder b(builder, getLoc());
  if (needed.test(0))
    grads[0] = b.make<CombineOp>(resultGrads[0], getExpert(), getSlot(), getToken(), getWeight());
  if (getWeight() && needed.test(4))
    grads[4] = b.make<RoutedDotOp>(getInput(), resultGrads[0], getExpert(), getSlot());
  return success();
}

AdjointReads DispatchOp::adjointReads() {
  if (!getWeight())
    return AdjointReads::of(*this, {1, 2, 3}, {});
  return AdjointReads::of(*this, {0, 1, 2, 3, 4}, {});
}

MOE_ADJOINT(CombineOp) {
  TensorBuilder b(builder, getLoc());
  if (needed.test(0))
    grads[0] = b.make<DispatchOp>(resultGrads[0], getExpert(), getSlot(), getToken(), getWeight());
  if (getWeight() && needed.test(4))
    grads[4] = b.make<RoutedDotOp>(resultGrads[0], getRows(), getExpert(), getSlot());
  return success();
}

AdjointReads CombineOp::adjointReads() {
  if (!getWeight())
    return AdjointReads::of(*this, {1, 2, 3}, {});
  return AdjointReads::of(*this, {0, 1, 2, 3, 4}, {});
}

} // namespace moe::ir
