//===- IndexSpace.cpp - Canonical sums, divisions and remainders ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/IndexSpace.h"

#include "llvm/Support/MathExtras.h"
#include <numeric>

using namespace mlir;

namespace moe::codegen {

namespace {

/// constant + sum of coefficient * atom; atoms are dimensions, symbols, divisions and remainders.
struct Sum {
  struct Term {
    AffineExpr atom;
    int64_t coefficient;
  };
  SmallVector<Term> terms;
  int64_t constant = 0;

  void add(AffineExpr atom, int64_t coefficient) {
    for (Term &term : terms)
      if (term.atom == atom) {
        term.coefficient += coefficient;
        return;
      }
    terms.push_back({atom, coefficient});
  }
};

void addTo(Sum &sum, AffineExpr expr, int64_t factor) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
    sum.constant += factor * constant.getValue();
    return;
  }
  if (auto binary = dyn_cast<AffineBinaryOpExpr>(expr)) {
    if (expr.getKind() == AffineExprKind::Add) {
      addTo(sum, binary.getLHS(), factor);
      addTo(sum, binary.getRHS(), factor);
      return;
    }
    if (expr.getKind() == AffineExprKind::Mul) {
      addTo(sum, binary.getLHS(), factor * cast<AffineConstantExpr>(binary.getRHS()).getValue());
      return;
    }
  }
  sum.add(expr, factor);
}

Sum sumOf(AffineExpr expr) {
  Sum sum;
  addTo(sum, expr, 1);
  return sum;
}

/// A total order that does not depend on addresses.
int compare(AffineExpr a, AffineExpr b) {
  if (a == b)
    return 0;
  auto rank = [](AffineExpr e) { return isa<AffineDimExpr>(e) ? 0 : isa<AffineSymbolExpr>(e) ? 1 : 2; };
  if (rank(a) != rank(b))
    return rank(a) - rank(b);
  if (auto dim = dyn_cast<AffineDimExpr>(a))
    return static_cast<int>(dim.getPosition()) - static_cast<int>(cast<AffineDimExpr>(b).getPosition());
  if (auto symbol = dyn_cast<AffineSymbolExpr>(a))
    return static_cast<int>(symbol.getPosition()) - static_cast<int>(cast<AffineSymbolExpr>(b).getPosition());
  if (a.getKind() != b.getKind())
    return static_cast<int>(a.getKind()) - static_cast<int>(b.getKind());
  if (auto constant = dyn_cast<AffineConstantExpr>(a))
    return constant.getValue() < cast<AffineConstantExpr>(b).getValue() ? -1 : 1;
  auto lhs = cast<AffineBinaryOpExpr>(a), rhs = cast<AffineBinaryOpExpr>(b);
  if (int first = compare(lhs.getLHS(), rhs.getLHS()))
    return first;
  return compare(lhs.getRHS(), rhs.getRHS());
}

AffineExpr build(Sum sum, const IndexSpace &space) {
  // a * (x mod n) + a * n * (x floordiv n) = a * x.
  for (size_t i = 0; i < sum.terms.size(); ++i) {
    auto remainder = dyn_cast<AffineBinaryOpExpr>(sum.terms[i].atom);
    if (!remainder || remainder.getKind() != AffineExprKind::Mod || sum.terms[i].coefficient == 0)
      continue;
    int64_t divisor = cast<AffineConstantExpr>(remainder.getRHS()).getValue();
    AffineExpr quotient = space.floorDiv(remainder.getLHS(), divisor);
    int64_t factor = sum.terms[i].coefficient;
    for (size_t j = 0; j < sum.terms.size(); ++j)
      if (sum.terms[j].atom == quotient && sum.terms[j].coefficient == factor * divisor) {
        sum.terms[i].coefficient = sum.terms[j].coefficient = 0;
        addTo(sum, remainder.getLHS(), factor);
        return build(std::move(sum), space);
      }
  }
  llvm::erase_if(sum.terms, [](const Sum::Term &term) { return term.coefficient == 0; });
  llvm::sort(sum.terms, [](const Sum::Term &a, const Sum::Term &b) { return compare(a.atom, b.atom) < 0; });
  AffineExpr result;
  for (const Sum::Term &term : sum.terms) {
    AffineExpr scaled = term.coefficient == 1 ? term.atom : term.atom * term.coefficient;
    result = result ? result + scaled : scaled;
  }
  if (!result)
    return space.constant(sum.constant);
  return sum.constant == 0 ? result : result + sum.constant;
}

/// Splits `sum` into `divisor * multiple + rest`, where the coefficients of rest are no multiples of divisor.
void split(const Sum &sum, int64_t divisor, Sum &multiple, Sum &rest) {
  for (const Sum::Term &term : sum.terms) {
    if (term.coefficient % divisor == 0)
      multiple.add(term.atom, term.coefficient / divisor);
    else
      rest.add(term.atom, term.coefficient);
  }
  multiple.constant = llvm::divideFloorSigned(sum.constant, divisor);
  rest.constant = sum.constant - multiple.constant * divisor;
}

bool within(IndexRange range, int64_t size) {
  return range.low >= 0 && range.high < size;
}

/// Finds g > 1 dividing `divisor` with sum = g * multiple + rest, 0 <= rest < g: the rest changes no quotient.
bool splitSmall(const IndexSpace &space, const Sum &sum, int64_t divisor, int64_t &g, Sum &multiple, Sum &rest) {
  for (const Sum::Term &term : sum.terms) {
    g = std::gcd(term.coefficient, divisor);
    if (g <= 1)
      continue;
    multiple = {};
    rest = {};
    split(sum, g, multiple, rest);
    if (within(space.range(build(rest, space)), g))
      return true;
  }
  return false;
}

} // namespace

AffineExpr IndexSpace::addDim(int64_t size) {
  dims.push_back(size);
  return dim(numDims() - 1);
}

AffineExpr IndexSpace::addSymbol(IndexRange range) {
  symbols.push_back(range);
  return getAffineSymbolExpr(numSymbols() - 1, context);
}

AffineExpr IndexSpace::constant(int64_t value) const {
  return getAffineConstantExpr(value, context);
}

AffineExpr IndexSpace::dim(unsigned position) const {
  return dims[position] == 1 ? constant(0) : getAffineDimExpr(position, context);
}

AffineExpr IndexSpace::add(AffineExpr lhs, AffineExpr rhs) const {
  Sum sum = sumOf(lhs);
  addTo(sum, rhs, 1);
  return build(std::move(sum), *this);
}

AffineExpr IndexSpace::mul(AffineExpr expr, int64_t factor) const {
  Sum sum;
  addTo(sum, expr, factor);
  return build(std::move(sum), *this);
}

AffineExpr IndexSpace::floorDiv(AffineExpr expr, int64_t divisor) const {
  if (divisor == 1)
    return expr;
  Sum whole, rest;
  split(sumOf(expr), divisor, whole, rest);
  AffineExpr quotient = build(whole, *this), remaining = build(rest, *this);
  if (within(range(remaining), divisor))
    return quotient;
  int64_t g = 1;
  Sum multiple, small;
  if (splitSmall(*this, rest, divisor, g, multiple, small))
    return add(quotient, floorDiv(build(multiple, *this), divisor / g));
  if (auto binary = dyn_cast<AffineBinaryOpExpr>(remaining)) {
    // (x floordiv a) floordiv b = x floordiv ab; (x mod ab) floordiv b = (x floordiv b) mod a.
    if (binary.getKind() == AffineExprKind::FloorDiv)
      return add(quotient, floorDiv(binary.getLHS(), divisor * cast<AffineConstantExpr>(binary.getRHS()).getValue()));
    if (binary.getKind() == AffineExprKind::Mod) {
      int64_t modulus = cast<AffineConstantExpr>(binary.getRHS()).getValue();
      if (modulus % divisor == 0)
        return add(quotient, mod(floorDiv(binary.getLHS(), divisor), modulus / divisor));
    }
  }
  Sum sum = sumOf(quotient);
  sum.add(getAffineBinaryOpExpr(AffineExprKind::FloorDiv, remaining, constant(divisor)), 1);
  return build(std::move(sum), *this);
}

AffineExpr IndexSpace::mod(AffineExpr expr, int64_t divisor) const {
  if (divisor == 1)
    return constant(0);
  Sum whole, rest;
  split(sumOf(expr), divisor, whole, rest);
  AffineExpr remaining = build(rest, *this);
  if (within(range(remaining), divisor))
    return remaining;
  int64_t g = 1;
  Sum multiple, small;
  if (splitSmall(*this, rest, divisor, g, multiple, small))
    return add(mul(mod(build(multiple, *this), divisor / g), g), build(small, *this));
  if (auto binary = dyn_cast<AffineBinaryOpExpr>(remaining))
    if (binary.getKind() == AffineExprKind::Mod && cast<AffineConstantExpr>(binary.getRHS()).getValue() % divisor == 0)
      return mod(binary.getLHS(), divisor);
  return getAffineBinaryOpExpr(AffineExprKind::Mod, remaining, constant(divisor));
}

IndexRange IndexSpace::range(AffineExpr expr) const {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return {constant.getValue(), constant.getValue()};
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return {0, dims[dim.getPosition()] - 1};
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return symbols[symbol.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  IndexRange lhs = range(binary.getLHS()), rhs = range(binary.getRHS());
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return {lhs.low + rhs.low, lhs.high + rhs.high};
  case AffineExprKind::Mul: {
    int64_t a = lhs.low * rhs.low, b = lhs.high * rhs.low;
    return {std::min(a, b), std::max(a, b)};
  }
  case AffineExprKind::FloorDiv:
    return {llvm::divideFloorSigned(lhs.low, rhs.low), llvm::divideFloorSigned(lhs.high, rhs.low)};
  default:
    return {0, rhs.low - 1};
  }
}

AffineExpr IndexSpace::linearize(ArrayRef<AffineExpr> index, ArrayRef<int64_t> shape) const {
  AffineExpr linear = constant(0);
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i])
    linear = add(mul(index[i], stride), linear);
  return linear;
}

SmallVector<AffineExpr> IndexSpace::delinearize(AffineExpr linear, ArrayRef<int64_t> shape) const {
  SmallVector<AffineExpr> index(shape.size(), constant(0));
  int64_t stride = 1;
  bool outermost = true;
  // The outermost dimension needs no remainder; dimensions of size one are always at 0.
  size_t first = 0;
  while (first < shape.size() && shape[first] == 1)
    ++first;
  for (size_t i = shape.size(); i-- > first; stride *= shape[i]) {
    outermost = i == first;
    AffineExpr quotient = floorDiv(linear, stride);
    index[i] = outermost ? quotient : mod(quotient, shape[i]);
  }
  return index;
}

AffineExpr IndexSpace::substitute(AffineExpr expr, ArrayRef<AffineExpr> replacements) const {
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return dim.getPosition() < replacements.size() && replacements[dim.getPosition()] ? replacements[dim.getPosition()]
                                                                                      : expr;
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return expr;
  AffineExpr lhs = substitute(binary.getLHS(), replacements);
  if (expr.getKind() == AffineExprKind::Add)
    return add(lhs, substitute(binary.getRHS(), replacements));
  int64_t value = cast<AffineConstantExpr>(binary.getRHS()).getValue();
  if (expr.getKind() == AffineExprKind::Mul)
    return mul(lhs, value);
  return expr.getKind() == AffineExprKind::FloorDiv ? floorDiv(lhs, value) : mod(lhs, value);
}

} // namespace moe::codegen
