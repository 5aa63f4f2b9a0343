//===- Elementwise.cpp - Reference semantics of elementwise operations ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "ir/reference/Philox.h"
#include <cmath>
#include <limits>
#include <numbers>

using namespace mlir;
using namespace moe::ir;

using Operands = ArrayRef<const HostTensor *>;
using Results = MutableArrayRef<HostTensor>;

//===----------------------------------------------------------------------------------------------------------------===//
// One operand
//===----------------------------------------------------------------------------------------------------------------===//

template <typename Function> static LogicalResult mapFloats(Operands operands, Results results, Function function) {
  for (size_t i = 0; i < results[0].floats.size(); ++i)
    results[0].floats[i] = function(operands[0]->floats[i]);
  return success();
}

#define UNARY(Op, formula)                                                                                             \
  LogicalResult Op::interpret(InterpreterContext &, Operands operands, Results results) {                              \
    return mapFloats(operands, results, [](double x) -> double { return formula; });                                   \
  }
UNARY(NegOp, -x)
UNARY(AbsOp, std::fabs(x))
UNARY(ExpOp, std::exp(x))
UNARY(LogOp, std::log(x))
UNARY(SqrtOp, std::sqrt(x))
UNARY(RsqrtOp, 1 / std::sqrt(x))
UNARY(TanhOp, std::tanh(x))
UNARY(ErfOp, std::erf(x))
UNARY(SigmoidOp, 1 / (1 + std::exp(-x)))
UNARY(SinOp, std::sin(x))
UNARY(CosOp, std::cos(x))
UNARY(ReluOp, x < 0 ? 0 : x)
#undef UNARY

LogicalResult GeluOp::interpret(InterpreterContext &, Operands operands, Results results) {
  bool tanh = getApproximate() == GeluKind::Tanh;
  return mapFloats(operands, results, [tanh](double x) {
    if (tanh)
      return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
  });
}

LogicalResult IsFiniteOp::interpret(InterpreterContext &, Operands operands, Results results) {
  for (size_t i = 0; i < results[0].ints.size(); ++i)
    results[0].ints[i] = std::isfinite(operands[0]->floats[i]);
  return success();
}

LogicalResult NotOp::interpret(InterpreterContext &, Operands operands, Results results) {
  for (size_t i = 0; i < results[0].ints.size(); ++i)
    results[0].ints[i] = !operands[0]->ints[i];
  return success();
}

/// Truncation towards zero; what an integer cannot hold saturates, NaN becomes 0.
static int64_t truncateToType(double value, IntegerType type) {
  if (std::isnan(value))
    return 0;
  int bits = type.getWidth() - (type.isUnsigned() ? 0 : 1);
  double end = std::ldexp(1.0, std::min(bits, 63));
  if (value >= end)
    return bits >= 63 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(end) - 1;
  double start = type.isUnsigned() ? 0 : -end;
  return static_cast<int64_t>(std::max(value, start));
}

LogicalResult CastOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0];
  HostTensor &result = results[0];
  Type to = typeOf(getResult()).getElementType();
  for (int64_t i = 0; i < result.size(); ++i) {
    if (result.isFloat)
      result.floats[i] = input.at(i);
    else if (to.isInteger(1))
      result.ints[i] = input.isFloat ? input.floats[i] != 0 : input.ints[i] != 0;
    else
      result.ints[i] = input.isFloat ? truncateToType(input.floats[i], cast<IntegerType>(to)) : input.ints[i];
  }
  return success();
}

LogicalResult ScaleGradientOp::interpret(InterpreterContext &, Operands operands, Results results) {
  results[0] = *operands[0];
  return success();
}

LogicalResult DropoutOp::interpret(InterpreterContext &context, Operands operands, Results results) {
  const HostTensor &input = *operands[0];
  const HostTensor &rng = *operands[1];
  double rate = getRate().convertToDouble();
  const Place place = placeOf(context, *this, getResult());
  for (int64_t i = 0; i < input.size(); ++i) {
    double uniform =
        uniformNumber(getSeed(), getSite(), rng.ints[0], rng.ints[1], place.elements(), place.index(input.shape, i));
    results[0].floats[i] = uniform < rate ? 0 : input.floats[i] / (1 - rate);
  }
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Two operands
//===----------------------------------------------------------------------------------------------------------------===//

/// Applies `onFloats` or `onInts`, as the operands are.
template <typename OnFloats, typename OnInts>
static LogicalResult zip(Operands operands, Results results, OnFloats onFloats, OnInts onInts) {
  const HostTensor &a = *operands[0], &b = *operands[1];
  for (int64_t i = 0; i < a.size(); ++i) {
    if (a.isFloat)
      results[0].floats[i] = onFloats(a.floats[i], b.floats[i]);
    else
      results[0].ints[i] = onInts(a.ints[i], b.ints[i]);
  }
  return success();
}

// Integers are wrapped to their width afterwards; unsigned arithmetic keeps the overflow of int64 defined.
LogicalResult AddOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zip(operands, results, std::plus<double>(), std::plus<uint64_t>());
}

LogicalResult SubOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zip(operands, results, std::minus<double>(), std::minus<uint64_t>());
}

LogicalResult MulOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zip(operands, results, std::multiplies<double>(), std::multiplies<uint64_t>());
}

LogicalResult DivOp::interpret(InterpreterContext &, Operands operands, Results results) {
  if (!operands[1]->isFloat && llvm::is_contained(operands[1]->ints, 0))
    return emitOpError() << "divides an integer by zero";
  return zip(operands, results, std::divides<double>(), [](int64_t a, int64_t b) -> int64_t {
    return b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b;
  });
}

LogicalResult MaxOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zip(
      operands, results, [](double a, double b) { return std::isnan(a) || a >= b ? a : b; },
      [](int64_t a, int64_t b) { return std::max(a, b); });
}

LogicalResult MinOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zip(
      operands, results, [](double a, double b) { return std::isnan(a) || a <= b ? a : b; },
      [](int64_t a, int64_t b) { return std::min(a, b); });
}

LogicalResult PowOp::interpret(InterpreterContext &, Operands operands, Results results) {
  for (size_t i = 0; i < results[0].floats.size(); ++i)
    results[0].floats[i] = std::pow(operands[0]->floats[i], operands[1]->floats[i]);
  return success();
}

template <typename Function> static LogicalResult zipInts(Operands operands, Results results, Function function) {
  for (size_t i = 0; i < results[0].ints.size(); ++i)
    results[0].ints[i] = function(operands[0]->ints[i], operands[1]->ints[i]);
  return success();
}

LogicalResult AndOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zipInts(operands, results, std::bit_and<int64_t>());
}

LogicalResult OrOp::interpret(InterpreterContext &, Operands operands, Results results) {
  return zipInts(operands, results, std::bit_or<int64_t>());
}

template <typename T> static bool holds(ComparePredicate predicate, T a, T b) {
  switch (predicate) {
  case ComparePredicate::EQ:
    return a == b;
  case ComparePredicate::NE:
    return a != b;
  case ComparePredicate::LT:
    return a < b;
  case ComparePredicate::LE:
    return a <= b;
  case ComparePredicate::GT:
    return a > b;
  case ComparePredicate::GE:
    return a >= b;
  }
  return false;
}

LogicalResult CompareOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &a = *operands[0], &b = *operands[1];
  for (int64_t i = 0; i < a.size(); ++i)
    results[0].ints[i] =
        a.isFloat ? holds(getPredicate(), a.floats[i], b.floats[i]) : holds(getPredicate(), a.ints[i], b.ints[i]);
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// More operands
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult AddNOp::interpret(InterpreterContext &, Operands operands, Results results) {
  results[0] = *operands[0];
  for (const HostTensor *operand : operands.drop_front())
    for (int64_t i = 0; i < operand->size(); ++i)
      results[0].floats[i] += operand->floats[i];
  return success();
}

LogicalResult SelectOp::interpret(InterpreterContext &, Operands operands, Results results) {
  for (int64_t i = 0; i < results[0].size(); ++i) {
    const HostTensor &chosen = operands[0]->ints[i] ? *operands[1] : *operands[2];
    if (chosen.isFloat)
      results[0].floats[i] = chosen.floats[i];
    else
      results[0].ints[i] = chosen.ints[i];
  }
  return success();
}
