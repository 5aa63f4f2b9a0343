//===- Elementwise.cpp - Scalar bodies of elementwise operations ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// The bodies serve scalars and vectors. Arithmetic is written so that one operation rounds the same way wherever it is
// computed: no contraction across operations, fused multiply-adds only where a body asks for them.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/TypeUtilities.h"

#include <cmath>
#include <numbers>

using namespace mlir;

namespace moe::ir {

namespace {

bool isFloat(Value value) {
  return isa<FloatType>(getElementTypeOrSelf(value.getType()));
}

/// A number of the (scalar or vector) type of `like`.
Value number(OpBuilder &b, Location loc, Value like, double value) {
  Type type = like.getType(), element = getElementTypeOrSelf(type);
  TypedAttr scalar = isa<FloatType>(element) ? cast<TypedAttr>(b.getFloatAttr(element, value))
                                             : cast<TypedAttr>(b.getIntegerAttr(element, static_cast<int64_t>(value)));
  if (auto vector = dyn_cast<VectorType>(type))
    return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vector, Attribute(scalar)));
  return arith::ConstantOp::create(b, loc, scalar);
}

/// `type` with another element type; vectors stay vectors.
Type withElementType(Type type, Type element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return VectorType::get(vector.getShape(), element, vector.getScalableDims());
  return element;
}

} // namespace

#define MOE_SCALAR(OP) Value OP::buildScalar(OpBuilder &b, ValueRange v)

MOE_SCALAR(NegOp) {
  return arith::NegFOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(AbsOp) {
  return math::AbsFOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(ExpOp) {
  return math::ExpOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(LogOp) {
  return math::LogOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(SqrtOp) {
  return math::SqrtOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(TanhOp) {
  return math::TanhOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(ErfOp) {
  return math::ErfOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(SinOp) {
  return math::SinOp::create(b, getLoc(), v[0]);
}
MOE_SCALAR(CosOp) {
  return math::CosOp::create(b, getLoc(), v[0]);
}

MOE_SCALAR(RsqrtOp) {
  // The exact quotient: the approximation instructions of CPUs differ between vendors.
  Value root = math::SqrtOp::create(b, getLoc(), v[0]);
  return arith::DivFOp::create(b, getLoc(), number(b, getLoc(), v[0], 1.0), root);
}

MOE_SCALAR(SigmoidOp) {
  Value e = math::ExpOp::create(b, getLoc(), arith::NegFOp::create(b, getLoc(), v[0]));
  Value one = number(b, getLoc(), v[0], 1.0);
  return arith::DivFOp::create(b, getLoc(), one, arith::AddFOp::create(b, getLoc(), one, e));
}

MOE_SCALAR(ReluOp) {
  Value zero = number(b, getLoc(), v[0], 0.0);
  // A comparison instead of a maximum, so that NaN passes through.
  Value negative = arith::CmpFOp::create(b, getLoc(), arith::CmpFPredicate::OLT, v[0], zero);
  return arith::SelectOp::create(b, getLoc(), negative, zero, v[0]);
}

MOE_SCALAR(IsFiniteOp) {
  Value magnitude = math::AbsFOp::create(b, getLoc(), v[0]);
  Value infinity = number(b, getLoc(), v[0], INFINITY);
  return arith::CmpFOp::create(b, getLoc(), arith::CmpFPredicate::OLT, magnitude, infinity);
}

MOE_SCALAR(GeluOp) {
  Location loc = getLoc();
  Value x = v[0], half = number(b, loc, x, 0.5), one = number(b, loc, x, 1.0), inner;
  if (getApproximate() == GeluKind::Erf) {
    inner = math::ErfOp::create(b, loc, arith::MulFOp::create(b, loc, x, number(b, loc, x, std::numbers::sqrt2 / 2)));
  } else {
    Value square = arith::MulFOp::create(b, loc, x, x);
    Value factor = math::FmaOp::create(b, loc, square, number(b, loc, x, 0.044715), one);
    Value argument = arith::MulFOp::create(
        b, loc, arith::MulFOp::create(b, loc, x, number(b, loc, x, std::sqrt(2.0 / std::numbers::pi))), factor);
    inner = math::TanhOp::create(b, loc, argument);
  }
  Value halfX = arith::MulFOp::create(b, loc, half, x);
  return arith::MulFOp::create(b, loc, halfX, arith::AddFOp::create(b, loc, one, inner));
}

#define MOE_SCALAR_ARITH(OP, FLOAT, INT)                                                                               \
  MOE_SCALAR(OP) {                                                                                                     \
    if (isFloat(v[0]))                                                                                                 \
      return FLOAT::create(b, getLoc(), v[0], v[1]);                                                                   \
    return INT::create(b, getLoc(), v[0], v[1]);                                                                       \
  }
MOE_SCALAR_ARITH(AddOp, arith::AddFOp, arith::AddIOp)
MOE_SCALAR_ARITH(SubOp, arith::SubFOp, arith::SubIOp)
MOE_SCALAR_ARITH(MulOp, arith::MulFOp, arith::MulIOp)
MOE_SCALAR_ARITH(DivOp, arith::DivFOp, arith::DivSIOp)
MOE_SCALAR_ARITH(MaxOp, arith::MaximumFOp, arith::MaxSIOp)
MOE_SCALAR_ARITH(MinOp, arith::MinimumFOp, arith::MinSIOp)

MOE_SCALAR(PowOp) {
  return math::PowFOp::create(b, getLoc(), v[0], v[1]);
}
MOE_SCALAR(AndOp) {
  return arith::AndIOp::create(b, getLoc(), v[0], v[1]);
}
MOE_SCALAR(OrOp) {
  return arith::OrIOp::create(b, getLoc(), v[0], v[1]);
}
MOE_SCALAR(NotOp) {
  return arith::XOrIOp::create(b, getLoc(), v[0], number(b, getLoc(), v[0], 1));
}

MOE_SCALAR(AddNOp) {
  Value sum = v[0];
  for (Value term : v.drop_front())
    sum = arith::AddFOp::create(b, getLoc(), sum, term);
  return sum;
}

MOE_SCALAR(CompareOp) {
  if (isFloat(v[0])) {
    constexpr arith::CmpFPredicate predicates[] = {arith::CmpFPredicate::OEQ, arith::CmpFPredicate::UNE,
                                                   arith::CmpFPredicate::OLT, arith::CmpFPredicate::OLE,
                                                   arith::CmpFPredicate::OGT, arith::CmpFPredicate::OGE};
    return arith::CmpFOp::create(b, getLoc(), predicates[static_cast<int>(getPredicate())], v[0], v[1]);
  }
  // Booleans order false before true, hence unsigned.
  bool isBool = getElementTypeOrSelf(v[0].getType()).isInteger(1);
  using P = arith::CmpIPredicate;
  const P predicates[] = {P::eq,
                          P::ne,
                          isBool ? P::ult : P::slt,
                          isBool ? P::ule : P::sle,
                          isBool ? P::ugt : P::sgt,
                          isBool ? P::uge : P::sge};
  return arith::CmpIOp::create(b, getLoc(), predicates[static_cast<int>(getPredicate())], v[0], v[1]);
}

MOE_SCALAR(SelectOp) {
  return arith::SelectOp::create(b, getLoc(), v[0], v[1], v[2]);
}

MOE_SCALAR(CastOp) {
  Location loc = getLoc();
  Type from = getElementTypeOrSelf(v[0].getType()), to = getTo();
  // Narrow floats are storage only: values inside regions are f32.
  if (isa<FloatType>(to) && to.getIntOrFloatBitWidth() < 32)
    to = b.getF32Type();
  Type type = withElementType(v[0].getType(), to);
  if (from == to)
    return v[0];
  if (isa<FloatType>(from)) {
    if (to.isInteger(1))
      return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, v[0], number(b, loc, v[0], 0.0));
    if (isa<IntegerType>(to))
      return arith::FPToSIOp::create(b, loc, type, v[0]);
    if (to.getIntOrFloatBitWidth() > from.getIntOrFloatBitWidth())
      return arith::ExtFOp::create(b, loc, type, v[0]);
    return arith::TruncFOp::create(b, loc, type, v[0]);
  }
  if (isa<FloatType>(to))
    return from.isInteger(1) ? Value(arith::UIToFPOp::create(b, loc, type, v[0]))
                             : Value(arith::SIToFPOp::create(b, loc, type, v[0]));
  if (to.isInteger(1))
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, v[0], number(b, loc, v[0], 0));
  if (to.getIntOrFloatBitWidth() < from.getIntOrFloatBitWidth())
    return arith::TruncIOp::create(b, loc, type, v[0]);
  return from.isInteger(1) ? Value(arith::ExtUIOp::create(b, loc, type, v[0]))
                           : Value(arith::ExtSIOp::create(b, loc, type, v[0]));
}

} // namespace moe::ir
