//===- Activations.cpp - GELU from its polynomials ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Recompose.h"

#include <cmath>
#include <map>
#include <numbers>

using namespace mlir;

namespace moe::ir::recompose {

namespace {

/// Coefficients of x^i f^j by (i, j).
using Polynomial = std::map<std::pair<int, int>, double>;

constexpr int kMaxDegree = 4;

std::optional<Polynomial> product(const Polynomial &a, const Polynomial &b) {
  Polynomial result;
  for (auto [p, x] : a)
    for (auto [q, y] : b) {
      if (p.first + q.first > kMaxDegree || p.second + q.second > kMaxDegree)
        return std::nullopt;
      result[{p.first + q.first, p.second + q.second}] += x * y;
    }
  return result;
}

Polynomial sum(Polynomial a, const Polynomial &b, double factor) {
  for (auto [p, x] : b)
    a[p] += factor * x;
  return a;
}

/// How far a coefficient may be off, relative to itself, if `number` is one of its factors: models write constants in
/// five to seven digits, and those of models in 16 bits are rounded to them. A coefficient has few factors.
double toleranceOf(double number) {
  auto isA = [number](const llvm::fltSemantics &format) {
    APFloat rounded(number);
    bool isChanged = false;
    rounded.convert(format, APFloat::rmNearestTiesToEven, &isChanged);
    return !isChanged;
  };
  return isA(APFloat::BFloat()) ? 0x1p-7 : isA(APFloat::IEEEhalf()) ? 0x1p-10 : 1e-5;
}

/// Equal but for the rounding of coefficients.
bool agree(const Polynomial &a, const Polynomial &b, double tolerance) {
  auto missing = [tolerance](const Polynomial &from, const Polynomial &in) {
    for (auto [power, x] : from) {
      auto other = in.find(power);
      double y = other == in.end() ? 0 : other->second;
      if (std::fabs(x - y) > tolerance * std::max(std::fabs(x), std::fabs(y)))
        return true;
    }
    return false;
  };
  return !missing(a, b) && !missing(b, a);
}

class PolynomialReader {
public:
  PolynomialReader(KnownValues &values, Value x, Value f) : values(values), x(x), f(f) {}

  /// `value` as a polynomial in x and f.
  std::optional<Polynomial> read(Value value, int depth = 0) {
    if (value == x)
      return Polynomial{{{1, 0}, 1.0}};
    if (value == f)
      return Polynomial{{{0, 1}, 1.0}};
    if (std::optional<double> number = values.scalar(value)) {
      tolerance = std::min(tolerance, toleranceOf(*number));
      return Polynomial{{{0, 0}, *number}};
    }
    Operation *op = value.getDefiningOp();
    if (!op || depth > 12)
      return std::nullopt;
    if (auto neg = dyn_cast<NegOp>(op)) {
      auto a = read(neg.getInput(), depth + 1);
      return a ? std::optional(sum({}, *a, -1)) : std::nullopt;
    }
    if (auto pow = dyn_cast<PowOp>(op)) {
      std::optional<double> exponent = values.scalar(pow.getRhs());
      auto a = exponent ? read(pow.getLhs(), depth + 1) : std::nullopt;
      if (!a || (*exponent != 2 && *exponent != 3))
        return std::nullopt;
      auto square = product(*a, *a);
      return square && *exponent == 3 ? product(*square, *a) : square;
    }
    if (!isa<AddOp, SubOp, MulOp, DivOp>(op))
      return std::nullopt;
    auto a = read(op->getOperand(0), depth + 1), b = a ? read(op->getOperand(1), depth + 1) : std::nullopt;
    if (!b)
      return std::nullopt;
    if (isa<MulOp>(op))
      return product(*a, *b);
    if (isa<AddOp, SubOp>(op))
      return sum(*a, *b, isa<AddOp>(op) ? 1 : -1);
    if (b->size() != 1 || b->begin()->first != std::pair(0, 0) || b->begin()->second == 0)
      return std::nullopt;
    return sum({}, *a, 1 / b->begin()->second);
  }

  /// Is the polynomial that was read the wanted one?
  bool agrees(const Polynomial &found, const Polynomial &wanted) const { return agree(found, wanted, tolerance); }

private:
  KnownValues &values;
  Value x, f;
  double tolerance = toleranceOf(0);
};

/// What `input` of erf or tanh is the wanted polynomial of; null if of nothing.
Value argumentOf(Value input, const Polynomial &wanted, KnownValues &values) {
  SmallVector<Value> candidates{input};
  for (size_t i = 0; i < candidates.size() && i < 32; ++i) { // grows while it runs
    Value x = candidates[i];
    PolynomialReader reader(values, x, {});
    std::optional<Polynomial> inner = reader.read(input);
    if (inner && reader.agrees(*inner, wanted))
      return x;
    if (Operation *op = x.getDefiningOp(); op && isa<AddOp, SubOp, MulOp, DivOp, PowOp, NegOp>(op))
      for (Value operand : op->getOperands())
        if (!llvm::is_contained(candidates, operand))
          candidates.push_back(operand);
  }
  return {};
}

void rewriteGelu(Operation *curve, KnownValues &values) {
  bool isErf = isa<ErfOp>(curve);
  const double slope = isErf ? std::numbers::sqrt2 / 2 : std::sqrt(2 / std::numbers::pi);
  Polynomial inner{{{1, 0}, slope}};
  if (!isErf)
    inner[{3, 0}] = slope * 0.044715;
  Value f = curve->getResult(0), x = argumentOf(curve->getOperand(0), inner, values);
  if (!x)
    return;
  const Polynomial outer{{{1, 0}, 0.5}, {{1, 1}, 0.5}};
  for (Value value = f; value.hasOneUse();) {
    Operation *user = *value.user_begin();
    if (!isa<AddOp, SubOp, MulOp, DivOp>(user))
      return;
    value = user->getResult(0);
    PolynomialReader reader(values, x, f);
    std::optional<Polynomial> whole = reader.read(value);
    if (!whole)
      return;
    if (!reader.agrees(*whole, outer))
      continue;
    OpBuilder builder(user);
    value.replaceAllUsesWith(
        GeluOp::create(builder, user->getLoc(), x, isErf ? GeluKind::Erf : GeluKind::Tanh).getResult());
    return;
  }
}

} // namespace

void rewriteActivations(Operation *function, KnownValues &values) {
  SmallVector<Operation *> curves;
  function->walk([&](Operation *op) {
    if (isa<ErfOp, TanhOp>(op))
      curves.push_back(op);
  });
  for (Operation *curve : curves)
    rewriteGelu(curve, values);
}

} // namespace moe::ir::recompose
