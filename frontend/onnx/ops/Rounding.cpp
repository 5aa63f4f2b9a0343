//===- Rounding.cpp - Integral parts, remainders and bits ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Body.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;
using moe::ir::ComparePredicate;

namespace moe::frontend {
namespace {

/// Floats of this magnitude or more have no fraction, in any format.
constexpr double kAllIntegral = 0x1p52;

Value select(NodeContext &n, Value condition, Value a, Value b) {
  return n.make<ir::SelectOp>(condition, a, b);
}

Value asNumber(NodeContext &n, Value condition, Value like) {
  return like ? n.cast(condition, n.element(like)) : Value();
}

/// Where x is finite and has a fraction, `integral`; else x. No gradient passes.
Value whereFractional(NodeContext &n, Value x, Value integral) {
  Value small = compare(n, ComparePredicate::LT, n.make<ir::AbsOp>(x), n.splatLike(x, kAllIntegral));
  return select(n, small, integral, detached(n, x));
}

/// Towards zero, by way of an integer.
Value truncated(NodeContext &n, Value x) {
  return x ? n.cast(n.cast(x, n.builder.getI64Type()), n.element(x)) : Value();
}

Value floored(NodeContext &n, Value x) {
  Value below = truncated(n, x);
  return n.make<ir::SubOp>(below, asNumber(n, compare(n, ComparePredicate::GT, below, x), x));
}

void floor(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, whereFractional(n, x, floored(n, x)));
}

void ceil(NodeContext &n) {
  Value x = n.input(0), above = truncated(n, x);
  Value up = asNumber(n, compare(n, ComparePredicate::LT, above, x), x);
  n.output(0, whereFractional(n, x, n.make<ir::AddOp>(above, up)));
}

/// To the nearest, halves to even.
void round(NodeContext &n) {
  Value x = n.input(0), below = floored(n, x), rest = n.make<ir::SubOp>(x, below);
  Value half = n.splatLike(x, 0.5),
        one = n.failed() ? Value() : n.splat(n.type(n.shape(x), n.builder.getI64Type()), 1.0);
  Value odd = compare(n, ComparePredicate::EQ,
                      n.make<ir::AndOp>(below ? n.cast(below, n.builder.getI64Type()) : Value(), one), one);
  Value tied = n.make<ir::AndOp>(compare(n, ComparePredicate::EQ, rest, half), odd);
  Value up = n.make<ir::OrOp>(compare(n, ComparePredicate::GT, rest, half), tied);
  n.output(0, whereFractional(n, x, n.make<ir::AddOp>(below, asNumber(n, up, x))));
}

/// -1, 0 or 1; NaN stays.
void sign(NodeContext &n) {
  Value x = n.input(0), zero = n.splatLike(x, 0.0);
  Value result = n.make<ir::SubOp>(asNumber(n, compare(n, ComparePredicate::GT, x, zero), x),
                                   asNumber(n, compare(n, ComparePredicate::LT, x, zero), x));
  if (!n.failed() && isa<FloatType>(n.element(x)))
    result = select(n, compare(n, ComparePredicate::EQ, x, x), result, detached(n, x));
  n.output(0, result);
}

/// The remainder has the divisor's sign for integers, the dividend's with `fmod`.
void mod(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  const bool ofDividend = n.integer("fmod", 0) != 0;
  if (n.failed())
    return n.output(0, {});
  Value a = values[0], b = values[1], zero = n.splatLike(a, 0.0);
  Value quotient = n.make<ir::DivOp>(a, b);
  if (isa<FloatType>(n.element(a)))
    quotient = whereFractional(n, quotient, ofDividend ? truncated(n, quotient) : floored(n, quotient));
  Value whole = n.make<ir::MulOp>(quotient, b);
  // 0 times an infinite divisor is nothing; an infinite quotient stays NaN.
  if (isa<FloatType>(n.element(a)))
    whole = select(n, n.make<ir::IsFiniteOp>(b), whole, n.make<ir::MulOp>(quotient, zero));
  Value rest = n.make<ir::SubOp>(a, whole);
  // A quotient that was rounded up leaves a rest of the wrong sign; so does one rounded to zero.
  auto negative = [&](Value x) { return compare(n, ComparePredicate::LT, x, zero); };
  Value wrong = n.make<ir::AndOp>(compare(n, ComparePredicate::NE, rest, zero),
                                  compare(n, ComparePredicate::NE, negative(rest), negative(ofDividend ? a : b)));
  Value step = ofDividend ? select(n, negative(a), negated(n, magnitude(n, b)), magnitude(n, b)) : b;
  n.output(0, select(n, wrong, n.make<ir::AddOp>(rest, step), rest));
}

template <typename Op> void bitwise(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  n.output(0, n.failed() ? Value() : n.make<Op>(values[0], values[1]));
}

/// The bits of either without those of both.
void bitwiseXor(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  n.output(0, n.failed()
                  ? Value()
                  : n.make<ir::SubOp>(n.make<ir::OrOp>(values[0], values[1]), n.make<ir::AndOp>(values[0], values[1])));
}

void bitwiseNot(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::SubOp>(n.splatLike(x, -1.0), x));
}

/// Bits moved by so many places: products with powers of two, and quotients rounded down, as the sign fills what is
/// free. Numbers that are moved by all of their bits, or by a negative number of places, become 0, negative ones to the
/// right -1.
void bitShift(NodeContext &n) {
  const std::string direction = n.text("direction", "");
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  if (direction != "LEFT" && direction != "RIGHT")
    n.fail("direction '" + direction + "' is neither LEFT nor RIGHT");
  if (!n.failed() && n.element(values[0]) != n.element(values[1]))
    n.fail("its operands have different element types");
  if (!n.failed() && (!isa<IntegerType>(n.element(values[0])) || n.element(values[0]).isInteger(1)))
    n.fail("only integers are shifted");
  if (n.failed())
    return n.output(0, {});
  Value x = values[0], places = values[1], zero = n.splatLike(x, 0.0), ones = n.splatLike(x, -1.0);
  const bool isSigned = !n.element(x).isUnsignedInteger(), isLeft = direction == "LEFT";
  // The power of the sign bit is negative: it can be a factor but no divisor.
  const int last = static_cast<int>(n.element(x).getIntOrFloatBitWidth()) - (isSigned && !isLeft ? 2 : 1);
  Value most = n.splatLike(x, last);
  Value isOutside =
      n.make<ir::OrOp>(compare(n, ComparePredicate::LT, places, zero), compare(n, ComparePredicate::GT, places, most));
  Body body(n);
  std::string within = body.node("Clip", {body.operand(1), body.number(0.0, x), body.number(last, x)});
  Value power = n.broadcastTo(body.value(body.node("Pow", {body.number(2.0, x), within})), n.shape(x));
  if (isLeft)
    return n.output(0, select(n, isOutside, zero, n.make<ir::MulOp>(x, power)));
  Value isNegative = compare(n, ComparePredicate::LT, x, zero);
  auto mirrored = [&](Value value) {
    return isSigned ? select(n, isNegative, n.make<ir::SubOp>(ones, value), value) : value;
  };
  Value quotient = mirrored(n.make<ir::DivOp>(mirrored(x), power));
  n.output(0, select(n, isOutside, isSigned ? select(n, isNegative, ones, zero) : zero, quotient));
}

constexpr OpEntry kOps[] = {
    {"", "Floor", 6, floor},
    {"", "Ceil", 6, ceil},
    {"", "Round", 11, round},
    {"", "Sign", 9, sign},
    {"", "Mod", 10, mod},
    {"", "BitShift", 11, bitShift},
    {"", "BitwiseAnd", 18, bitwise<ir::AndOp>},
    {"", "BitwiseOr", 18, bitwise<ir::OrOp>},
    {"", "BitwiseXor", 18, bitwiseXor},
    {"", "BitwiseNot", 18, bitwiseNot},
};

} // namespace

llvm::ArrayRef<OpEntry> roundingOps() {
  return kOps;
}

} // namespace moe::frontend
