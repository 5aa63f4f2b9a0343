//===- MathExpansion.cpp - Functions and roundings without a library ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// Polynomials of float32 on scalars and vectors, relative error below 4e-7 (test/codegen checks each against the C
// library in double). Coefficients are our own minimax fits (weighted least squares at Chebyshev nodes, rounded to
// float32); range reductions are the textbook ones of Cody and Waite. sin, cos and pow reduce in double, whose range
// and precision make the reduction harmless.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/kernel/NodeEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/TypeSwitch.h"
#include <cmath>
#include <numbers>

using namespace mlir;

namespace moe::codegen {

namespace {

/// Arithmetic on values of the shape (scalar or vector) of one argument.
class Expander {
public:
  Expander(OpBuilder &builder, Location loc, Type shape, MathInstructions offered)
      : b(builder), loc(loc), shape(shape), instructions(offered) {
    if (shape != VectorType::get({16}, b.getF32Type()))
      instructions = MathInstructions::None;
  }

  Value exp(Value x);
  Value log(Value x);
  Value tanh(Value x);
  Value erf(Value x);
  Value sinOrCos(Value x, bool cosine);
  Value pow(Value x, Value y);
  /// x as a bfloat16, ties to even; null if an instruction does that.
  Value toBfloat(Value x);

private:
  Type like(Type element) const {
    if (auto vector = dyn_cast<VectorType>(shape))
      return VectorType::get(vector.getShape(), element);
    return element;
  }
  Type f32() const { return like(b.getF32Type()); }
  Type f64() const { return like(b.getF64Type()); }
  Type i32() const { return like(b.getI32Type()); }
  Type i64() const { return like(b.getI64Type()); }

  Value splat(Type type, TypedAttr scalar) {
    if (auto vector = dyn_cast<VectorType>(type))
      return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vector, Attribute(scalar)));
    return arith::ConstantOp::create(b, loc, scalar);
  }
  /// A number of the type of `like`.
  Value num(double value, Value like) {
    Type element = getElementTypeOrSelf(like.getType());
    return splat(like.getType(), b.getFloatAttr(element, value));
  }
  Value bits(int64_t value, Type type) { return splat(type, b.getIntegerAttr(getElementTypeOrSelf(type), value)); }
  Value add(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
  Value fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
  // Bounds by comparison keep a NaN in x and are one instruction each.
  Value atLeast(Value x, Value bound) { return select(less(x, bound), bound, x); }
  Value atMost(Value x, Value bound) { return select(less(bound, x), bound, x); }
  Value abs(Value x) { return math::AbsFOp::create(b, loc, x); }
  Value copySign(Value magnitude, Value sign) { return math::CopySignOp::create(b, loc, magnitude, sign); }
  Value nearest(Value x) { return math::RoundEvenOp::create(b, loc, x); }
  Value iadd(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
  Value isub(Value x, Value y) { return arith::SubIOp::create(b, loc, x, y); }
  Value iand(Value x, Value y) { return arith::AndIOp::create(b, loc, x, y); }
  Value shl(Value x, int64_t by) { return arith::ShLIOp::create(b, loc, x, bits(by, x.getType())); }
  Value shr(Value x, int64_t by) { return arith::ShRSIOp::create(b, loc, x, bits(by, x.getType())); }
  Value cast(Type type, Value x) { return arith::BitcastOp::create(b, loc, type, x); }
  Value less(Value x, Value y) { return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, y); }
  Value equal(Value x, Value y) { return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, x, y); }
  Value isNan(Value x) { return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x); }
  Value select(Value condition, Value x, Value y) { return arith::SelectOp::create(b, loc, condition, x, y); }

  /// c[0] + c[1] x + c[2] x^2 + …
  Value polynomial(Value x, ArrayRef<double> c) {
    Value sum = num(c.back(), x);
    for (double coefficient : llvm::reverse(c.drop_back()))
      sum = fma(sum, x, num(coefficient, x));
    return sum;
  }
  /// x / y to an ulp or so, where neither y nor 1/y is subnormal or infinite.
  Value quotient(Value x, Value y);
  /// p * 2^n for an n that is an integer and a float32; `shifted` is n + 1.5 * 2^23.
  Value scale(Value p, Value n, Value shifted);
  Value intrinsic(StringRef name, ArrayRef<Value> operands) {
    return LLVM::CallIntrinsicOp::create(b, loc, shape, b.getStringAttr(name), operands).getResult(0);
  }
  Value allLanes() { return arith::ConstantOp::create(b, loc, b.getI16IntegerAttr(-1)); }

  /// Splits positive, normal x (given as `word`, its bits) into m * 2^e, sqrt(1/2) <= m < sqrt(2); e as a float.
  void splitExponent(Value word, Type floatType, unsigned mantissaBits, int64_t halfRootBits, Value &m, Value &e);
  /// log((1+s)/(1-s)) / (2s) - 1, with s^2 = z.
  Value logSeries(Value z, int terms);

  OpBuilder &b;
  Location loc;
  Type shape;
  MathInstructions instructions;
};

Value Expander::quotient(Value x, Value y) {
  if (instructions == MathInstructions::None)
    return div(x, y);
  // A reciprocal good to 2^-14 and one step of Newton's take a fraction of the time of a division.
  Value r = intrinsic("llvm.x86.avx512.rcp14.ps.512", {y, num(0.0, y), allLanes()});
  Value error = fma(arith::NegFOp::create(b, loc, y), r, num(1.0, y));
  return mul(x, fma(r, error, r));
}

Value Expander::scale(Value p, Value n, Value shifted) {
  if (instructions != MathInstructions::None) {
    Value current = LLVM::ConstantOp::create(b, loc, b.getI32Type(), b.getI32IntegerAttr(4)); // the rounding mode
    return intrinsic("llvm.x86.avx512.mask.scalef.ps.512", {p, n, p, allLanes(), current});
  }
  // In two factors, so that results below the normal range come out right.
  Value k = isub(cast(i32(), shifted), bits(0x4B400000, i32()));
  Value half = shr(k, 1), other = isub(k, half);
  Value bias = bits(127, i32());
  p = mul(p, cast(f32(), shl(iadd(half, bias), 23)));
  return mul(p, cast(f32(), shl(iadd(other, bias), 23)));
}

Value Expander::exp(Value x) {
  // Beyond these bounds the result is 0 or infinite anyway.
  Value t = atMost(atLeast(x, num(-105.0, x)), num(90.0, x));
  // Adding 1.5 * 2^23 rounds to an integer, which then is in the low bits.
  Value magic = num(0x1.8p23, x);
  Value shifted = fma(t, num(std::numbers::log2e, x), magic);
  Value n = sub(shifted, magic);
  // ln 2 in two parts: n times the first is exact.
  Value r = fma(n, num(-0x1.62ep-1, x), t);
  r = fma(n, num(-(std::numbers::ln2 - 0x1.62ep-1), x), r);
  Value p = polynomial(
      r, {0.4999999403953552, 0.16666515171527863, 0.04166845604777336, 0.008369418792426586, 0.0013813142431899905});
  p = add(fma(mul(r, r), p, r), num(1.0, x));
  return scale(p, n, shifted);
}

void Expander::splitExponent(Value word, Type floatType, unsigned mantissaBits, int64_t halfRootBits, Value &m,
                             Value &e) {
  Type type = word.getType();
  // Counting from the bits of sqrt(1/2), the exponent field changes where m reaches sqrt(2).
  Value exponent = shr(isub(word, bits(halfRootBits, type)), mantissaBits);
  m = cast(floatType, isub(word, shl(exponent, mantissaBits)));
  e = arith::SIToFPOp::create(b, loc, floatType, exponent);
}

Value Expander::logSeries(Value z, int terms) {
  SmallVector<double> coefficients;
  for (int k = 1; k <= terms; ++k)
    coefficients.push_back(1.0 / (2 * k + 1));
  return mul(z, polynomial(z, coefficients));
}

Value Expander::log(Value x) {
  Value one = num(1.0, x), infinity = num(INFINITY, x);
  Value isSmall = less(x, num(0x1p-126, x));
  Value scaled = select(isSmall, mul(x, num(0x1p24, x)), x), m, e;
  splitExponent(cast(i32(), scaled), f32(), 23, 0x3F3504F3, m, e);
  e = select(isSmall, sub(e, num(24.0, x)), e);
  Value f = sub(m, one), s = quotient(f, add(f, num(2.0, x)));
  // log m = 2s + 2s z (1/3 + z/5 + …) and 2s = f - s f, where f is exact.
  Value rest = mul(s, sub(mul(num(2.0, x), logSeries(mul(s, s), 4)), f));
  Value low = fma(e, num(std::numbers::ln2 - 0x1.62ep-1, x), rest);
  Value result = add(fma(e, num(0x1.62ep-1, x), f), low);
  result = select(equal(x, infinity), infinity, result);
  result = select(equal(x, num(0.0, x)), num(-INFINITY, x), result);
  Value invalid = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::ULT, x, num(0.0, x));
  return select(invalid, num(NAN, x), result);
}

Value Expander::tanh(Value x) {
  Value z = mul(x, x), a = abs(x);
  Value p = polynomial(z, {-0.33333277702331543, 0.13331303000450134, -0.053727589547634125, 0.020598065108060837,
                           -0.0056577036157250404});
  Value small = fma(mul(x, z), p, x);
  // From 9.02 on it is 1 in float32; there exp is still finite.
  Value bounded = atMost(a, num(10.0, x));
  Value large = sub(num(1.0, x), quotient(num(2.0, x), add(exp(add(bounded, bounded)), num(1.0, x))));
  return select(less(a, num(0.625, x)), small, copySign(large, x));
}

Value Expander::erf(Value x) {
  // x P(x^2) / Q(x^2) with the least relative error, 2.5e-8, on [-4, 4], where erf reaches 1 in float32. Without exp
  // and without a choice of two branches, of which a vector would compute both.
  Value t = atMost(atLeast(x, num(-4.0, x)), num(4.0, x)), z = mul(t, t);
  Value p = polynomial(z, {1.1283791393142155, 0.19354554580531358, 0.05310181592933499, 0.003883367072636462,
                           0.0002845668265857656, 1.9867836281587552e-06});
  Value q = polynomial(z, {1.0, 0.5048578294433992, 0.11535020574856725, 0.015207296119222238, 0.0011855775486222285,
                           3.7420237296932996e-05});
  Value ratio = quotient(mul(t, p), q);
  // Rounding must not lead beyond 1: what is 1 - erf elsewhere may not change its sign.
  return atMost(atLeast(ratio, num(-1.0, x)), num(1.0, x));
}

Value Expander::sinOrCos(Value x, bool cosine) {
  Value wide = arith::ExtFOp::create(b, loc, f64(), x);
  Value quadrant = nearest(mul(wide, num(std::numbers::inv_pi * 2, wide)));
  Value reduced = fma(quadrant, num(-std::numbers::pi / 2, wide), wide);
  reduced = fma(quadrant, num(-6.123233995736766e-17, wide), reduced);
  Value r = arith::TruncFOp::create(b, loc, f32(), reduced), z = mul(r, r);
  Value sine = fma(mul(r, z), polynomial(z, {-0.16666653752326965, 0.008332131430506706, -0.00019510838319547474}), r);
  Value cosTail = polynomial(z, {0.04166664555668831, -0.0013887305976822972, 2.4431203200947493e-05});
  Value cosineOf = fma(mul(z, z), cosTail, fma(z, num(-0.5, z), num(1.0, z)));
  // Quadrant modulo 4 in floating point: it may exceed any integer type. cos x = sin(x + a quadrant).
  Value q = cosine ? add(quadrant, num(1.0, wide)) : quadrant;
  Value turns = math::FloorOp::create(b, loc, mul(q, num(0.25, wide)));
  q = sub(q, mul(turns, num(4.0, wide)));
  Value isOdd = arith::OrIOp::create(b, loc, equal(q, num(1.0, wide)), equal(q, num(3.0, wide)));
  Value isLower = less(num(1.5, wide), q);
  Value value = select(isOdd, cosineOf, sine);
  return select(isLower, arith::NegFOp::create(b, loc, value), value);
}

Value Expander::pow(Value x, Value y) {
  Value wideX = arith::ExtFOp::create(b, loc, f64(), abs(x)), wideY = arith::ExtFOp::create(b, loc, f64(), y), m, e;
  // Every float32 but 0 is a normal double; 0 counts as 2^-1023, whose powers round to 0, 1 or infinity all the same.
  splitExponent(cast(i64(), wideX), f64(), 52, 0x3FE6A09E667F3BCD, m, e);
  Value s = div(sub(m, num(1.0, m)), add(m, num(1.0, m)));
  Value twice = add(s, s);
  Value logarithm = fma(e, num(std::numbers::ln2, m), fma(twice, logSeries(mul(s, s), 6), twice));
  Value t = mul(wideY, logarithm);
  // The exponent of a NaN base looks like a number.
  Value undefined = arith::OrIOp::create(b, loc, isNan(t), isNan(x));
  t = atMost(atLeast(t, num(-200.0, t)), num(200.0, t));
  Value magic = num(0x1.8p52, t), shifted = fma(t, num(std::numbers::log2e, t), magic);
  Value r = fma(sub(shifted, magic), num(-std::numbers::ln2, t), t);
  SmallVector<double> taylor{1.0};
  for (int k = 1; k <= 9; ++k)
    taylor.push_back(taylor.back() / k);
  Value k = isub(cast(i64(), shifted), bits(0x4338000000000000, i64()));
  Value scale = cast(f64(), shl(iadd(k, bits(1023, i64())), 52));
  Value magnitude = arith::TruncFOp::create(b, loc, f32(), mul(polynomial(r, taylor), scale));

  Value zero = num(0.0, x), one = num(1.0, x), nan = num(NAN, x);
  magnitude = select(undefined, nan, magnitude);
  // Negative bases: integer exponents only, odd ones keep the sign.
  Value isInteger = equal(nearest(y), y), half = mul(y, num(0.5, x));
  Value isOdd = arith::AndIOp::create(b, loc, isInteger,
                                      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, nearest(half), half));
  Value negative = select(isOdd, arith::NegFOp::create(b, loc, magnitude), select(isInteger, magnitude, nan));
  Value result = select(less(x, zero), negative, magnitude);
  Value isOne = arith::OrIOp::create(b, loc, equal(y, zero), equal(x, one));
  return select(isOne, one, result);
}

Value Expander::toBfloat(Value x) {
  if (instructions == MathInstructions::Avx512Bf16)
    return {};
  // In integers: LLVM's own truncation calls a library function that not every system has.
  Value word = cast(i32(), x), odd = iand(arith::ShRUIOp::create(b, loc, word, bits(16, i32())), bits(1, i32()));
  Value rounded = iadd(iadd(word, bits(0x7fff, i32())), odd);
  // Rounding must not carry a NaN into an infinity.
  Value quiet = arith::OrIOp::create(b, loc, word, bits(0x400000, i32()));
  Value chosen = arith::ShRUIOp::create(b, loc, select(isNan(x), quiet, rounded), bits(16, i32()));
  return cast(like(b.getBF16Type()), arith::TruncIOp::create(b, loc, like(b.getI16Type()), chosen));
}

} // namespace

void expandMath(Operation *root, MathInstructions instructions) {
  SmallVector<Operation *> pending;
  root->walk([&](Operation *op) {
    if (isa<math::ExpOp, math::LogOp, math::TanhOp, math::ErfOp, math::SinOp, math::CosOp, math::PowFOp>(op) ||
        (isa<arith::TruncFOp>(op) && getElementTypeOrSelf(op->getResult(0)).isBF16()))
      pending.push_back(op);
  });
  for (Operation *op : pending) {
    OpBuilder builder(op);
    Value x = op->getOperand(0);
    Expander expander(builder, op->getLoc(), x.getType(), instructions);
    Value result = TypeSwitch<Operation *, Value>(op)
                       .Case([&](math::ExpOp) { return expander.exp(x); })
                       .Case([&](math::LogOp) { return expander.log(x); })
                       .Case([&](math::TanhOp) { return expander.tanh(x); })
                       .Case([&](math::ErfOp) { return expander.erf(x); })
                       .Case([&](math::SinOp) { return expander.sinOrCos(x, false); })
                       .Case([&](math::CosOp) { return expander.sinOrCos(x, true); })
                       .Case([&](math::PowFOp) { return expander.pow(x, op->getOperand(1)); })
                       .Case([&](arith::TruncFOp) { return expander.toBfloat(x); });
    if (!result)
      continue;
    op->getResult(0).replaceAllUsesWith(result);
    op->erase();
  }
}

} // namespace moe::codegen
