//===- AdjointTensor.cpp - Reverse-mode rules of elementwise operations and tensor algebra ----------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/LayoutRules.h"
#include "ir/RetypeTensors.h"
#include "ir/TensorBuilder.h"
#include "mlir/IR/Matchers.h"

#include "llvm/ADT/Sequence.h"
#include <cmath>
#include <numbers>

using namespace mlir;

namespace moe::ir {

#define MOE_ADJOINT(OP)                                                                                                \
  LogicalResult OP::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &needed,       \
                                 MutableArrayRef<Value> grads)

//===----------------------------------------------------------------------------------------------------------------===//
// Elementwise: one operand
//===----------------------------------------------------------------------------------------------------------------===//

#define MOE_ADJOINT_UNARY(OP, EXPRESSION)                                                                              \
  MOE_ADJOINT(OP) {                                                                                                    \
    TensorBuilder b(builder, getLoc());                                                                                \
    Value x = getInput(), y = getResult(), dy = resultGrads[0];                                                        \
    (void)x;                                                                                                           \
    (void)y;                                                                                                           \
    grads[0] = EXPRESSION;                                                                                             \
    return success();                                                                                                  \
  }

MOE_ADJOINT_UNARY(NegOp, b.neg(dy))
MOE_ADJOINT_UNARY(ExpOp, b.mul(dy, y))
MOE_ADJOINT_UNARY(LogOp, b.div(dy, x))
MOE_ADJOINT_UNARY(SqrtOp, b.div(b.mul(dy, 0.5), y))
MOE_ADJOINT_UNARY(RsqrtOp, b.mul(b.mul(dy, -0.5), b.div(y, x)))
MOE_ADJOINT_UNARY(TanhOp, b.mul(dy, b.sub(b.splatLike(y, 1.0), b.mul(y, y))))
MOE_ADJOINT_UNARY(ErfOp, b.mul(b.mul(dy, 2.0 * std::numbers::inv_sqrtpi), b.exp(b.neg(b.mul(x, x)))))
MOE_ADJOINT_UNARY(SigmoidOp, b.mul(dy, b.mul(y, b.sub(b.splatLike(y, 1.0), y))))
MOE_ADJOINT_UNARY(SinOp, b.mul(dy, b.make<CosOp>(x)))
MOE_ADJOINT_UNARY(CosOp, b.neg(b.mul(dy, b.make<SinOp>(x))))
MOE_ADJOINT_UNARY(ReluOp, b.select(b.compare(ComparePredicate::GT, y, b.splatLike(y, 0.0)), dy, b.splatLike(dy, 0.0)))
MOE_ADJOINT_UNARY(ScaleGradientOp, getFactor().isZero() ? Value() : b.mul(dy, getFactor().convertToDouble()))
MOE_ADJOINT_UNARY(ReshapeOp, b.reshapeLike(dy, typeOf(x)))

/// Numbered as the forward's, elements meet the same random numbers.
MOE_ADJOINT(DropoutOp) {
  auto dropped = DropoutOp::create(builder, getLoc(), resultGrads[0], getRng(), getRate(), getSeed(), getSite());
  if (Attribute shape = (*this)->getAttr(kNumberedShapeAttr))
    dropped->setAttr(kNumberedShapeAttr, shape);
  grads[0] = dropped;
  return success();
}

MOE_ADJOINT(AbsOp) {
  TensorBuilder b(builder, getLoc());
  Value zero = b.splatLike(getInput(), 0.0), dy = resultGrads[0];
  Value negative = b.select(b.compare(ComparePredicate::LT, getInput(), zero), b.neg(dy), b.splatLike(dy, 0.0));
  grads[0] = b.select(b.compare(ComparePredicate::GT, getInput(), zero), dy, negative);
  return success();
}

MOE_ADJOINT(GeluOp) {
  TensorBuilder b(builder, getLoc());
  Value x = getInput(), half = b.splatLike(x, 0.5), one = b.splatLike(x, 1.0), derivative;
  if (getApproximate() == GeluKind::Erf) {
    // Phi(x) + x phi(x) with the normal distribution and density.
    Value cdf = b.mul(half, b.add(one, b.make<ErfOp>(b.mul(x, std::numbers::sqrt2 / 2))));
    Value pdf = b.mul(b.exp(b.mul(b.mul(x, x), -0.5)), std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2);
    derivative = b.add(cdf, b.mul(x, pdf));
  } else {
    double c = std::sqrt(2.0 / std::numbers::pi);
    Value square = b.mul(x, x);
    Value t = b.tanh(b.mul(b.mul(x, c), b.add(b.mul(square, 0.044715), one)));
    Value inner = b.mul(b.add(b.mul(square, 3 * 0.044715), one), c);
    Value slope = b.mul(b.mul(b.mul(half, x), b.sub(one, b.mul(t, t))), inner);
    derivative = b.add(b.mul(half, b.add(one, t)), slope);
  }
  grads[0] = b.mul(resultGrads[0], derivative);
  return success();
}

MOE_ADJOINT(CastOp) {
  TensorBuilder b(builder, getLoc());
  // Integers carry no gradient.
  if (isa<FloatType>(getTo()) && isa<FloatType>(typeOf(getInput()).getElementType()))
    grads[0] = b.cast(resultGrads[0], typeOf(getInput()).getElementType());
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Elementwise: two and more operands
//===----------------------------------------------------------------------------------------------------------------===//

#define MOE_ADJOINT_BINARY(OP, LHS, RHS)                                                                               \
  MOE_ADJOINT(OP) {                                                                                                    \
    TensorBuilder b(builder, getLoc());                                                                                \
    Value x = getLhs(), z = getRhs(), y = getResult(), dy = resultGrads[0];                                            \
    (void)x;                                                                                                           \
    (void)z;                                                                                                           \
    (void)y;                                                                                                           \
    if (needed.test(0))                                                                                                \
      grads[0] = LHS;                                                                                                  \
    if (needed.test(1))                                                                                                \
      grads[1] = RHS;                                                                                                  \
    return success();                                                                                                  \
  }

MOE_ADJOINT_BINARY(AddOp, dy, dy)
MOE_ADJOINT_BINARY(SubOp, dy, b.neg(dy))
MOE_ADJOINT_BINARY(MulOp, b.mul(dy, z), b.mul(dy, x))
MOE_ADJOINT_BINARY(DivOp, b.div(dy, z), b.neg(b.div(b.mul(dy, y), z)))
MOE_ADJOINT_BINARY(PowOp, b.mul(dy, b.mul(z, b.pow(x, b.add(z, -1.0)))), b.mul(dy, b.mul(y, b.log(x))))
MOE_ADJOINT_BINARY(MaxOp, b.select(b.compare(ComparePredicate::GE, x, z), dy, b.splatLike(dy, 0.0)),
                   b.select(b.compare(ComparePredicate::GE, x, z), b.splatLike(dy, 0.0), dy))
MOE_ADJOINT_BINARY(MinOp, b.select(b.compare(ComparePredicate::LE, x, z), dy, b.splatLike(dy, 0.0)),
                   b.select(b.compare(ComparePredicate::LE, x, z), b.splatLike(dy, 0.0), dy))

MOE_ADJOINT(AddNOp) {
  for (unsigned i : needed.set_bits())
    grads[i] = resultGrads[0];
  return success();
}

MOE_ADJOINT(SelectOp) {
  TensorBuilder b(builder, getLoc());
  Value dy = resultGrads[0], zero = b.splatLike(dy, 0.0);
  if (needed.test(1))
    grads[1] = b.select(getCondition(), dy, zero);
  if (needed.test(2))
    grads[2] = b.select(getCondition(), zero, dy);
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Shape
//===----------------------------------------------------------------------------------------------------------------===//

MOE_ADJOINT(BroadcastOp) {
  TensorBuilder b(builder, getLoc());
  SmallVector<int64_t> repeated;
  for (int64_t d = 0; d < getType().getRank(); ++d)
    if (!llvm::is_contained(getDims(), d))
      repeated.push_back(d);
  grads[0] = b.reduce(ReduceKind::Sum, resultGrads[0], repeated);
  return success();
}

MOE_ADJOINT(TransposeOp) {
  TensorBuilder b(builder, getLoc());
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [to, from] : llvm::enumerate(getPermutation()))
    inverse[from] = to;
  grads[0] = b.transpose(resultGrads[0], inverse);
  return success();
}

MOE_ADJOINT(SliceOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType from = typeOf(getInput()), to = getType();
  if (to.getNumElements() == 0)
    return success();
  SmallVector<int64_t> low(getStarts()), high, interior;
  for (int64_t d = 0; d < from.getRank(); ++d) {
    int64_t covered = (to.getDimSize(d) - 1) * getStrides()[d] + 1;
    high.push_back(from.getDimSize(d) - low[d] - covered);
    interior.push_back(getStrides()[d] - 1);
  }
  grads[0] = b.make<PadOp>(resultGrads[0], low, high, interior);
  return success();
}

MOE_ADJOINT(PadOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType from = typeOf(getInput());
  if (from.getNumElements() == 0)
    return success();
  SmallVector<int64_t> limits, strides;
  for (int64_t d = 0; d < from.getRank(); ++d) {
    strides.push_back(getInterior()[d] + 1);
    limits.push_back(getLow()[d] + (from.getDimSize(d) - 1) * strides.back() + 1);
  }
  grads[0] = b.make<SliceOp>(resultGrads[0], getLow(), limits, strides);
  return success();
}

MOE_ADJOINT(ConcatOp) {
  TensorBuilder b(builder, getLoc());
  int64_t dim = getDim(), at = 0;
  for (auto [i, input] : llvm::enumerate(getInputs())) {
    RankedTensorType type = typeOf(input);
    SmallVector<int64_t> starts(type.getRank(), 0), limits(type.getShape()), strides(type.getRank(), 1);
    starts[dim] = at;
    at += type.getDimSize(dim);
    limits[dim] = at;
    if (needed.test(i))
      grads[i] = b.make<SliceOp>(resultGrads[0], starts, limits, strides);
  }
  return success();
}

MOE_ADJOINT(ReduceOp) {
  TensorBuilder b(builder, getLoc());
  SmallVector<int64_t> kept;
  RankedTensorType type = typeOf(getInput());
  for (int64_t d = 0; d < type.getRank(); ++d)
    if (!llvm::is_contained(getDims(), d))
      kept.push_back(d);
  Value dy = b.broadcastLike(resultGrads[0], type, kept);
  if (getKind() == ReduceKind::Sum) {
    grads[0] = dy;
    return success();
  }
  Value extreme = b.compare(ComparePredicate::EQ, getInput(), b.broadcastLike(getResult(), type, kept));
  Value mask = b.cast(extreme, type.getElementType());
  Value count = b.broadcastLike(b.reduce(ReduceKind::Sum, mask, getDims()), type, kept);
  grads[0] = b.div(b.mul(dy, mask), count);
  return success();
}

MOE_ADJOINT(CumsumOp) {
  auto sum = CumsumOp::create(builder, getLoc(), resultGrads[0], getDim(), getExclusive(), !getReverse());
  grads[0] = sum.getResult();
  return success();
}

/// What arrives at place j of a sorted row goes where the element came from: dx[…, i] = sum of dv[…, j] over the j with
/// indices[…, j] = i. As a sum it keeps rows apart, which may be split; a scatter would need them whole.
MOE_ADJOINT(SortOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType type = typeOf(getInput());
  SmallVector<int64_t> pairs(type.getShape()), row = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
  pairs.push_back(pairs.back());
  Value from = b.broadcast(getIndices(), pairs, row), terms = b.broadcast(resultGrads[0], pairs, row);
  Value arrives = b.compare(ComparePredicate::EQ, from, b.iota(typeOf(from), type.getRank()));
  grads[0] = b.reduce(ReduceKind::Sum, b.select(arrives, terms, b.splatLike(terms, 0.0)), {type.getRank() - 1});
  return success();
}

AdjointReads SortOp::adjointReads() {
  return AdjointReads::of(*this, {}, {1});
}

MOE_ADJOINT(GatherOp) {
  TensorBuilder b(builder, getLoc());
  if (!needed.test(0))
    return success();
  RankedTensorType table = typeOf(getTable());
  // A row that many indices name sums as many gradients: in float32 at least, whatever the rows are.
  const bool narrow = table.getElementTypeBitWidth() < 32;
  Value rows = narrow ? b.cast(resultGrads[0], b.builder.getF32Type()) : resultGrads[0];
  Type type = RankedTensorType::get(table.getShape(), typeOf(rows).getElementType());
  LayoutRule rule = scatterAddRule(typeOf(getIndex()).getRank(), table.getRank(), /*hasInit=*/false);
  Type operands[] = {getIndex().getType(), rows.getType()};
  if (failed(inferLayouts(getLoc(), rule, operands, type)))
    return failure();
  Value sum = b.make<ScatterAddOp>(type, getIndex(), rows, Value());
  grads[0] = narrow ? b.cast(sum, table.getElementType()) : sum;
  return success();
}

MOE_ADJOINT(ScatterAddOp) {
  TensorBuilder b(builder, getLoc());
  if (needed.test(1))
    grads[1] = b.make<GatherOp>(resultGrads[0], getIndex());
  if (getInit() && needed.test(2))
    grads[2] = resultGrads[0];
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Matrix products
//===----------------------------------------------------------------------------------------------------------------===//

namespace {

/// One side of a product, as its adjoint sees it.
struct Side {
  Value value;
  ArrayRef<int64_t> batch, contract;
  SmallVector<int64_t> free;
};

/// The gradient of `self`, given `other` and the gradient `dy` of the product, whose dimensions of `other` start at
/// `otherAt`. Of the two operand orders the one that needs no transpose is taken.
Value dotGradient(TensorBuilder &b, const Side &self, const Side &other, Value dy, int64_t selfAt, int64_t otherAt) {
  SmallVector<int64_t> dyBatch = llvm::to_vector(llvm::seq<int64_t>(0, self.batch.size()));
  SmallVector<int64_t> dyContract =
      llvm::to_vector(llvm::seq<int64_t>(otherAt, otherAt + static_cast<int64_t>(other.free.size())));
  // Dimensions of `self` in the order in which they come out: batch, free (from dy), contracted (from other).
  SmallVector<int64_t> contracted;
  for (int64_t d = 0; d < typeOf(other.value).getRank(); ++d)
    for (auto [mine, theirs] : llvm::zip_equal(self.contract, other.contract))
      if (theirs == d)
        contracted.push_back(mine);
  auto order = [&](bool dyFirst) {
    SmallVector<int64_t> dims(self.batch);
    llvm::append_range(dims, dyFirst ? ArrayRef<int64_t>(self.free) : ArrayRef<int64_t>(contracted));
    llvm::append_range(dims, dyFirst ? ArrayRef<int64_t>(contracted) : ArrayRef<int64_t>(self.free));
    return dims;
  };
  bool dyFirst = !llvm::is_sorted(order(false));
  Value product = dyFirst ? b.dot(dy, other.value, dyBatch, other.batch, dyContract, other.free)
                          : b.dot(other.value, dy, other.batch, dyBatch, other.free, dyContract);
  SmallVector<int64_t> dims = order(dyFirst), permutation(dims.size());
  for (auto [from, to] : llvm::enumerate(dims))
    permutation[to] = from;
  return b.transpose(product, permutation);
}

} // namespace

MOE_ADJOINT(DotOp) {
  TensorBuilder b(builder, getLoc());
  Side lhs{getLhs(), getLhsBatch(), getLhsContract(), lhsFree()},
      rhs{getRhs(), getRhsBatch(), getRhsContract(), rhsFree()};
  int64_t lhsAt = lhs.batch.size(), rhsAt = lhsAt + lhs.free.size();
  if (needed.test(0))
    grads[0] = dotGradient(b, lhs, rhs, resultGrads[0], lhsAt, rhsAt);
  if (needed.test(1))
    grads[1] = dotGradient(b, rhs, lhs, resultGrads[0], rhsAt, lhsAt);
  return success();
}

} // namespace moe::ir
