//===- DecomposeAttention.cpp - Attention in finer operations, and its gradients ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/RetypeTensors.h"
#include "ir/TensorBuilder.h"

#include <limits>

using namespace mlir;

namespace moe::ir {

bool AttentionOp::decomposesForCodegen() {
  return static_cast<bool>(getBias());
}

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Attention up to its scores [B,H,T,S], in the type of lse, which is float32 for narrower queries.
class Scores {
public:
  Scores(AttentionOp attention, OpBuilder &builder) : op(attention), b(builder, attention.getLoc()) {
    query = widened(op.getQuery());
    key = repeated(widened(op.getKey()));
    value = repeated(widened(op.getValue()));
    scaled = b.mul(b.dot(query, key, {0, 2}, {0, 2}, {3}, {3}), scale());
    masked = scaled;
    if (double cap = op.getSoftcap().convertToDouble(); cap > 0) {
      saturation = b.tanh(b.mul(scaled, 1.0 / cap));
      masked = b.mul(saturation, cap);
    }
    if (op.getBias())
      masked = b.add(masked, b.broadcastLike(widened(op.getBias()), typeOf(masked), op.getBiasDims()));
    hidePositions();
    if (op.getPadding())
      hide(b.broadcastLike(op.getPadding(), withElement(typeOf(masked), b.builder.getI1Type()), {0, 3}));
  }

  Value widened(Value v) { return b.cast(v, typeOf(op.getLse()).getElementType()); }
  /// Back to the element type of the query.
  Value narrowed(Value v) { return b.cast(v, typeOf(op.getQuery()).getElementType()); }
  double scale() { return op.getScale().convertToDouble(); }
  Value dropped(Value weights) {
    if (op.getRate().convertToDouble() == 0)
      return weights;
    auto dropout = DropoutOp::create(b.builder, b.loc, weights, op.getRng(), op.getRate(), op.getSeed(), op.getSite());
    // Of [B,T,H,D] and now of [B,H,T,S].
    if (auto place = op->getAttrOfType<LayoutAttr>(kLayoutAttr)) {
      for (unsigned axis = 0; axis < place.getAxes().size(); ++axis)
        if (place.kind(axis) == AxisKind::Shard && place.getDims()[axis] == 2)
          place = place.with(axis, AxisKind::Shard, 1);
      dropout->setAttr(kLayoutAttr, place);
    }
    return dropout.getResult();
  }
  int64_t groupSize() { return typeOf(op.getQuery()).getDimSize(2) / typeOf(op.getKey()).getDimSize(2); }

  AttentionOp op;
  TensorBuilder b;
  Value query, key, value; ///< [B,T,H,D], [B,S,H,D] twice
  Value scaled;            ///< scale q k^T
  Value saturation;        ///< tanh(scaled / softcap); null without softcap
  Value masked;            ///< capped, with bias, -inf where a query does not see a key

private:
  /// Every query head of a group sees the same key head: [B,S,Hkv,D] -> [B,S,H,D].
  Value repeated(Value v) {
    if (groupSize() == 1)
      return v;
    ArrayRef<int64_t> s = typeOf(v).getShape();
    Value wide = b.broadcast(v, {s[0], s[1], s[2], groupSize(), s[3]}, {0, 1, 2, 4});
    return b.reshape(wide, {s[0], s[1], s[2] * groupSize(), s[3]});
  }

  void hide(Value hidden) { masked = b.select(hidden, b.splatLike(masked, -infinity), masked); }

  /// What `causal` and `window` hide: keys after and long before the query, both counted from the end.
  void hidePositions() {
    int64_t window = static_cast<int64_t>(op.getWindow());
    if (!op.getCausal() && window == 0)
      return;
    RankedTensorType indices = withElement(typeOf(masked), b.builder.getI32Type());
    int64_t ahead = typeOf(key).getDimSize(1) - typeOf(query).getDimSize(1);
    Value last = b.add(b.iota(indices, 2), static_cast<double>(ahead)), column = b.iota(indices, 3);
    if (op.getCausal())
      hide(b.compare(ComparePredicate::GT, column, last));
    if (window > 0)
      hide(b.compare(ComparePredicate::LE, column, b.add(last, static_cast<double>(-window))));
  }
};

/// Their softmax [B,H,T,S], not by way of lse: beside a bias of -1e38 the logarithm of a sum is nothing.
struct Weights {
  explicit Weights(Scores &scores) {
    TensorBuilder &b = scores.b;
    maximum = b.reduceLast(ReduceKind::Max, scores.masked);
    Value sinks;
    if (scores.op.getSinks()) {
      sinks = b.broadcastLike(scores.widened(scores.op.getSinks()), typeOf(maximum), {1});
      maximum = b.max(maximum, sinks);
    }
    // A query that sees no key: finite maximum, divisor 1, hence weights of zero.
    maximum = b.max(maximum, b.splatLike(maximum, std::numeric_limits<float>::lowest()));
    Value e = b.exp(b.sub(scores.masked, b.broadcastRows(maximum, scores.masked)));
    sum = b.reduceLast(ReduceKind::Sum, e);
    if (sinks) {
      sink = b.exp(b.sub(sinks, maximum));
      sum = b.add(sum, sink);
    }
    Value none = b.compare(ComparePredicate::EQ, sum, b.splatLike(sum, 0.0));
    Value divisor = b.select(none, b.splatLike(sum, 1.0), sum);
    result = b.div(e, b.broadcastRows(divisor, e));
    if (sinks)
      sink = b.div(sink, divisor);
  }

  Value result;
  Value sink;         ///< weight of the sink [B,H,T]; null without one
  Value maximum, sum; ///< [B,H,T]
};

} // namespace

FailureOr<SmallVector<Value>> AttentionOp::decompose(OpBuilder &builder) {
  Scores scores(*this, builder);
  TensorBuilder &b = scores.b;
  Weights weights(scores);
  // [B,H,T,D] -> [B,T,H,D]
  Value out = b.dot(scores.dropped(weights.result), scores.value, {0, 1}, {0, 2}, {3}, {1});
  return SmallVector<Value>{scores.narrowed(b.transpose(out, {0, 2, 1, 3})),
                            b.add(weights.maximum, b.log(weights.sum))};
}

/// Gradients in fine operations from the weights p computed anew. With their gradients dp = dout v^T and the inner
/// products o = dout . out of each query: dscores = p (dp - o), and the gradient of a sink is minus its weight times o.
static void buildFineAdjoint(AttentionOp op, OpBuilder &builder, Value resultGrad, const llvm::SmallBitVector &needed,
                             MutableArrayRef<Value> grads) {
  Scores scores(op, builder);
  TensorBuilder &b = scores.b;
  auto grad = [&](unsigned operand) -> Value * {
    auto [index, length] = op.getODSOperandIndexAndLength(operand);
    return length > 0 && needed.test(index) ? &grads[index] : nullptr;
  };
  Value dOut = scores.widened(resultGrad);
  Weights softmax(scores);
  Value weights = softmax.result;
  // [B,S,H,D] -> [B,S,Hkv,D], from a dot's order [B,H,S,D]
  auto perKeyHead = [&](Value v) {
    ArrayRef<int64_t> s = typeOf(v).getShape();
    if (int64_t group = scores.groupSize(); group > 1)
      v = b.reduce(ReduceKind::Sum, b.reshape(v, {s[0], s[1] / group, group, s[2], s[3]}), {2});
    return scores.narrowed(b.transpose(v, {0, 2, 1, 3}));
  };
  if (Value *dValue = grad(2))
    *dValue = perKeyHead(b.dot(scores.dropped(weights), dOut, {0, 1}, {0, 2}, {2}, {1}));
  Value inner = b.transpose(b.reduceLast(ReduceKind::Sum, b.mul(dOut, scores.widened(op.getResult()))), {0, 2, 1});
  if (Value *dSinks = grad(6))
    *dSinks = scores.narrowed(b.reduce(ReduceKind::Sum, b.neg(b.mul(softmax.sink, inner)), {0, 2}));
  // Dropout is linear and drops the same elements of the gradient.
  Value dWeights = scores.dropped(b.dot(dOut, scores.value, {0, 2}, {0, 2}, {3}, {3}));
  Value dScores = b.mul(weights, b.sub(dWeights, b.broadcastRows(inner, weights)));
  if (Value *dBias = grad(5)) {
    SmallVector<int64_t> repeated;
    for (int64_t dim = 0; dim < 4; ++dim)
      if (!llvm::is_contained(op.getBiasDims(), dim))
        repeated.push_back(dim);
    *dBias = scores.narrowed(b.reduce(ReduceKind::Sum, dScores, repeated));
  }
  if (scores.saturation)
    dScores = b.mul(dScores, b.sub(b.splatLike(scores.saturation, 1.0), b.mul(scores.saturation, scores.saturation)));
  dScores = b.mul(dScores, scores.scale());
  if (Value *dQuery = grad(0))
    *dQuery = scores.narrowed(b.transpose(b.dot(dScores, scores.key, {0, 1}, {0, 2}, {3}, {1}), {0, 2, 1, 3}));
  if (Value *dKey = grad(1))
    *dKey = perKeyHead(b.dot(dScores, scores.query, {0, 1}, {0, 2}, {2}, {1}));
}

/// Minus the weight of each sink times the inner product of a query's output and its gradient.
static Value sinksGradient(AttentionOp op, OpBuilder &builder, Value resultGrad) {
  TensorBuilder b(builder, op.getLoc());
  RankedTensorType rows = typeOf(op.getLse());
  auto widened = [&](Value v) { return b.cast(v, rows.getElementType()); };
  Value sinks = b.broadcastLike(widened(op.getSinks()), rows, {1});
  Value inner = b.reduceLast(ReduceKind::Sum, b.mul(widened(resultGrad), widened(op.getResult())));
  Value terms = b.mul(b.exp(b.sub(sinks, op.getLse())), b.transpose(inner, {0, 2, 1}));
  return b.cast(b.neg(b.reduce(ReduceKind::Sum, terms, {0, 2})), typeOf(op.getSinks()).getElementType());
}

LogicalResult AttentionOp::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &needed,
                                        MutableArrayRef<Value> grads) {
  if (resultGrads[1])
    return emitOpError("has no gradient through its result #1, which is meant for its own backward pass");
  if (getBias()) {
    buildFineAdjoint(*this, builder, resultGrads[0], needed, grads);
    return success();
  }
  auto backward = AttentionBackwardOp::create(builder, getLoc(), resultGrads[0], getQuery(), getKey(), getValue(),
                                              getResult(), getLse(), getPadding(), getRng(), getScale(), getCausal(),
                                              getRate(), getSeed(), getSite(), getSoftcap(), getWindow());
  for (unsigned i = 0; i < 3; ++i)
    if (needed.test(i))
      grads[i] = backward->getResult(i);
  if (unsigned sinks = getODSOperandIndexAndLength(6).first; getSinks() && needed.test(sinks))
    grads[sinks] = sinksGradient(*this, builder, resultGrads[0]);
  return success();
}

AdjointReads AttentionOp::adjointReads() {
  AdjointReads reads = AdjointReads::of(*this, {0, 1, 2}, {0});
  if (!getBias())
    reads.results.set(1);
  for (unsigned i = 3; i < getNumOperands(); ++i)
    reads.operands.set(i);
  return reads;
}

} // namespace moe::ir
