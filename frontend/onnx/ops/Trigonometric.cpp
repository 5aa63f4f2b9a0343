//===- Trigonometric.cpp - Circular and hyperbolic functions and their inverses -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
// Compositions of what the dialect has, in forms that neither cancel near zero nor overflow early, and whose
// derivatives are those of the function at zero too.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"
#include <numbers>

using namespace mlir;

namespace moe::frontend {
namespace {

Value select(NodeContext &n, Value condition, Value a, Value b) {
  return n.make<ir::SelectOp>(condition, a, b);
}

Value isNegative(NodeContext &n, Value x) {
  return x ? compare(n, ir::ComparePredicate::LT, x, n.splatLike(x, 0.0)) : Value();
}

/// sign(x) f(|x|) for an odd function that is given for x >= 0.
template <typename Function> Value odd(NodeContext &n, Value x, Function f) {
  Value negative = isNegative(n, x), y = f(select(n, negative, n.make<ir::NegOp>(x), x));
  return select(n, negative, n.make<ir::NegOp>(y), y);
}

/// log(1 + z) for z >= 0, exact for small z: what 1 + z loses by rounding is added in first order. The derivative is
/// that of the logarithm alone.
Value logOfOnePlus(NodeContext &n, Value z) {
  Value u = add(n, z, 1.0), lost = n.make<ir::SubOp>(z, add(n, u, -1.0));
  return n.make<ir::AddOp>(n.make<ir::LogOp>(u), detached(n, n.make<ir::DivOp>(lost, u)));
}

Value sqrtOfOnePlusSquare(NodeContext &n, Value x) {
  return n.make<ir::SqrtOp>(add(n, n.make<ir::MulOp>(x, x), 1.0));
}

/// atan(x) for x >= 0. Above 1 it is pi/2 - atan(1/x); two times atan(x) = 2 atan(x / (1 + sqrt(1 + x^2))) leaves
/// x < 0.2, where eight terms of the series are good to 1e-13.
Value arcTangent(NodeContext &n, Value x) {
  constexpr int kTerms = 8;
  Value large = x ? compare(n, ir::ComparePredicate::GT, x, n.splatLike(x, 1.0)) : Value();
  Value one = x ? n.splatLike(x, 1.0) : Value();
  // The divisor that is not taken must not be zero: its derivative would be infinity times 0.
  Value t = select(n, large, n.make<ir::DivOp>(one, select(n, large, x, one)), x);
  for (int i = 0; i < 2; ++i)
    t = n.make<ir::DivOp>(t, add(n, sqrtOfOnePlusSquare(n, t), 1.0));
  Value square = n.make<ir::MulOp>(t, t), series = t ? n.splatLike(t, 0.0) : Value();
  for (int k = kTerms - 1; k >= 0 && !n.failed(); --k)
    series = add(n, n.make<ir::MulOp>(series, square), (k % 2 ? -1.0 : 1.0) / (2 * k + 1));
  Value angle = multiply(n, n.make<ir::MulOp>(series, t), 4.0);
  return select(n, large, add(n, n.make<ir::NegOp>(angle), std::numbers::pi / 2), angle);
}

/// asin(x) = 2 atan(x / (1 + sqrt(1 - x^2)))
Value arcSine(NodeContext &n, Value x) {
  return odd(n, x, [&](Value y) {
    // (1 - y) (1 + y) keeps its digits near 1.
    Value product = n.make<ir::MulOp>(add(n, n.make<ir::NegOp>(y), 1.0), add(n, y, 1.0));
    return multiply(n, arcTangent(n, n.make<ir::DivOp>(y, add(n, n.make<ir::SqrtOp>(product), 1.0))), 2.0);
  });
}

Value hyperbolicCosine(NodeContext &n, Value x) {
  return multiply(n, n.make<ir::AddOp>(n.make<ir::ExpOp>(x), n.make<ir::ExpOp>(n.make<ir::NegOp>(x))), 0.5);
}

void tan(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::DivOp>(n.make<ir::SinOp>(x), n.make<ir::CosOp>(x)));
}

void asin(NodeContext &n) {
  n.output(0, arcSine(n, n.input(0)));
}

void acos(NodeContext &n) {
  n.output(0, add(n, n.make<ir::NegOp>(arcSine(n, n.input(0))), std::numbers::pi / 2));
}

void atan(NodeContext &n) {
  n.output(0, odd(n, n.input(0), [&](Value x) { return arcTangent(n, x); }));
}

void cosh(NodeContext &n) {
  n.output(0, hyperbolicCosine(n, n.input(0)));
}

/// tanh(x) cosh(x): the difference of exponentials would lose small x.
void sinh(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::MulOp>(n.make<ir::TanhOp>(x), hyperbolicCosine(n, x)));
}

/// log(x + sqrt(x^2 + 1)) = log(1 + x + x^2 / (1 + sqrt(x^2 + 1)))
void asinh(NodeContext &n) {
  n.output(0, odd(n, n.input(0), [&](Value x) {
             Value square = n.make<ir::MulOp>(x, x);
             Value rest = n.make<ir::DivOp>(square, add(n, sqrtOfOnePlusSquare(n, x), 1.0));
             return logOfOnePlus(n, n.make<ir::AddOp>(x, rest));
           }));
}

/// log(x + sqrt(x^2 - 1)) = log(1 + t + sqrt(2 t + t^2)) with t = x - 1
void acosh(NodeContext &n) {
  Value t = add(n, n.input(0), -1.0);
  Value root = n.make<ir::SqrtOp>(n.make<ir::MulOp>(t, add(n, t, 2.0)));
  n.output(0, logOfOnePlus(n, n.make<ir::AddOp>(t, root)));
}

/// log((1 + x) / (1 - x)) / 2 = log(1 + 2 x / (1 - x)) / 2
void atanh(NodeContext &n) {
  n.output(0, odd(n, n.input(0), [&](Value x) {
             Value ratio = n.make<ir::DivOp>(multiply(n, x, 2.0), add(n, n.make<ir::NegOp>(x), 1.0));
             return multiply(n, logOfOnePlus(n, ratio), 0.5);
           }));
}

constexpr OpEntry kOps[] = {
    {"", "Tan", 7, tan},     {"", "Asin", 7, asin},   {"", "Acos", 7, acos},
    {"", "Atan", 7, atan},   {"", "Sinh", 9, sinh},   {"", "Cosh", 9, cosh},
    {"", "Asinh", 9, asinh}, {"", "Acosh", 9, acosh}, {"", "Atanh", 9, atanh},
};

} // namespace

llvm::ArrayRef<OpEntry> trigonometricOps() {
  return kOps;
}

} // namespace moe::frontend
