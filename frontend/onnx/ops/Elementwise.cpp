//===- Elementwise.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

template <typename Op> void unary(NodeContext &n) {
  n.output(0, n.make<Op>(n.input(0)));
}

void identity(NodeContext &n) {
  passOn(n);
}

/// Two or (Sum, Min, Max) any number of operands, combined from left to right.
template <typename Op> void nary(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n);
  if (values.empty())
    n.fail("it has no operands");
  if (n.failed())
    return n.output(0, {});
  Value result = values.front();
  for (Value value : llvm::drop_begin(values))
    result = n.make<Op>(result, value);
  n.output(0, result);
}

void mean(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n);
  if (values.empty())
    n.fail("it has no operands");
  if (n.failed())
    return n.output(0, {});
  Value sum = values.front();
  for (Value value : llvm::drop_begin(values))
    sum = n.make<ir::AddOp>(sum, value);
  n.output(0, n.make<ir::DivOp>(sum, n.splatLike(sum, static_cast<double>(values.size()))));
}

/// Integers to integer powers by repeated squaring, exactly; 0 for negative exponents, whatever the base.
Value integerPower(NodeContext &n, Value base, Value exponent) {
  // From 2^64 on only 0, 1 and -1 have powers that integers hold, and those depend on whether the exponent is odd.
  constexpr int kBits = 6;
  Value two = n.splatLike(base, 2.0), result = n.splatLike(base, 1.0);
  Value negative = compare(n, ir::ComparePredicate::LT, exponent, n.splatLike(exponent, 0.0));
  Value rest = n.make<ir::SubOp>(exponent, n.make<ir::MulOp>(n.make<ir::DivOp>(exponent, two), two));
  exponent = n.make<ir::MinOp>(exponent, add(n, rest, 62.0));
  for (int bit = 0; bit < kBits && !n.failed(); ++bit) {
    Value half = n.make<ir::DivOp>(exponent, two);
    Value odd = compare(n, ir::ComparePredicate::NE, exponent, n.make<ir::MulOp>(half, two));
    result = n.make<ir::SelectOp>(odd, n.make<ir::MulOp>(result, base), result);
    base = n.make<ir::MulOp>(base, base);
    exponent = half;
  }
  return n.make<ir::SelectOp>(negative, n.splatLike(result, 0.0), result);
}

void power(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  if (n.failed())
    return n.output(0, {});
  const Type element = n.element(values[0]);
  if (isa<IntegerType>(element)) {
    if (isa<IntegerType>(n.element(values[1])))
      return n.output(0, integerPower(n, values[0], n.cast(values[1], element)));
    Value wide = n.cast(values[0], n.element(values[1]));
    return n.output(0, n.cast(n.make<ir::PowOp>(wide, values[1]), element));
  }
  std::optional<ir::HostTensor> exponent = n.program.evaluate(n.input(1));
  if (exponent && exponent->size() == 1 && exponent->at(0) == 2.0)
    return n.output(0, n.make<ir::MulOp>(values[0], values[0]));
  n.output(0, n.make<ir::PowOp>(values[0], n.cast(values[1], n.element(values[0]))));
}

template <ir::ComparePredicate predicate> void comparison(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  n.output(0, n.failed() ? Value() : n.make<ir::CompareOp>(predicate, values[0], values[1]));
}

void where(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 3);
  n.output(0, n.failed() ? Value() : n.make<ir::SelectOp>(values[0], values[1], values[2]));
}

void isNaN(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::CompareOp>(ir::ComparePredicate::NE, x, x));
}

void isInf(NodeContext &n) {
  Value x = n.input(0);
  Value above = compare(n, ir::ComparePredicate::EQ, x, n.splatLike(x, INFINITY));
  Value below = compare(n, ir::ComparePredicate::EQ, x, n.splatLike(x, -INFINITY));
  const bool positive = n.integer("detect_positive", 1) != 0, negative = n.integer("detect_negative", 1) != 0;
  if (positive && negative)
    return n.output(0, n.make<ir::OrOp>(above, below));
  if (positive || negative)
    return n.output(0, positive ? above : below);
  n.output(0, n.make<ir::AndOp>(above, below));
}

void exclusiveOr(NodeContext &n) {
  llvm::SmallVector<Value> values = broadcastOperands(n, 2);
  n.output(0, n.failed() ? Value() : n.make<ir::CompareOp>(ir::ComparePredicate::NE, values[0], values[1]));
}

void reciprocal(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::DivOp>(n.splatLike(x, 1.0), x));
}

void neg(NodeContext &n) {
  n.output(0, negated(n, n.input(0)));
}

void abs(NodeContext &n) {
  n.output(0, magnitude(n, n.input(0)));
}

void castTo(NodeContext &n) {
  Type to = n.program.elementType(static_cast<int32_t>(n.integer("to", 0)));
  if (!to)
    n.fail("the element type " + onnx::TensorProto::DataType_Name(static_cast<int>(n.integer("to", 0))) +
           " is not supported");
  Value x = n.input(0);
  n.output(0, n.failed() ? Value() : n.cast(x, to));
}

void castLike(NodeContext &n) {
  Value x = n.input(0), like = n.input(1);
  n.output(0, n.failed() ? Value() : n.cast(x, n.element(like)));
}

/// Minimum and maximum are operands (opset 11) and may be absent.
void clip(NodeContext &n) {
  Value x = n.input(0);
  if (n.hasInput(1) && !n.failed())
    x = n.make<ir::MaxOp>(x, n.broadcastTo(n.input(1), n.shape(x)));
  if (n.hasInput(2) && !n.failed())
    x = n.make<ir::MinOp>(x, n.broadcastTo(n.input(2), n.shape(x)));
  n.output(0, x);
}

/// Active in training where `training_mode` says so. A preset leaves it out and means that it is; so do opsets before
/// 12, which have no such operand and of which exporters write a Dropout for training only.
void dropout(NodeContext &n) {
  Value x = n.input(0);
  double ratio = n.opset < 12 ? n.real("ratio", 0.5) : 0.5;
  if (n.opset >= 12 && n.hasInput(1))
    ratio = n.scalar(1).value_or(0.0);
  const bool told = n.opset < 12 || !n.program.session.model.metadata("ai.moec.preset").empty();
  if (n.hasInput(2) ? n.scalar(2) == 0.0 : !told)
    ratio = 0.0;
  if (n.wantsOutput(1)) {
    if (ratio != 0.0)
      n.fail("the mask of a dropout cannot be an output: it is never stored");
    n.output(1, n.failed() ? Value() : n.splat(n.type(n.shape(x), n.builder.getI1Type()), 1.0));
  }
  n.output(0, n.failed() ? Value() : n.dropout(x, ratio));
}

constexpr OpEntry kOps[] = {
    {"", "Add", 7, nary<ir::AddOp>},
    {"", "Sub", 7, nary<ir::SubOp>},
    {"", "Mul", 7, nary<ir::MulOp>},
    {"", "Div", 7, nary<ir::DivOp>},
    {"", "Max", 8, nary<ir::MaxOp>},
    {"", "Min", 8, nary<ir::MinOp>},
    {"", "Sum", 8, nary<ir::AddOp>},
    {"", "Mean", 8, mean},
    {"", "And", 7, nary<ir::AndOp>},
    {"", "Or", 7, nary<ir::OrOp>},
    {"", "Xor", 7, exclusiveOr},
    {"", "Not", 1, unary<ir::NotOp>},
    {"", "Pow", 7, power},
    {"", "Equal", 7, comparison<ir::ComparePredicate::EQ>},
    {"", "Less", 7, comparison<ir::ComparePredicate::LT>},
    {"", "LessOrEqual", 12, comparison<ir::ComparePredicate::LE>},
    {"", "Greater", 7, comparison<ir::ComparePredicate::GT>},
    {"", "GreaterOrEqual", 12, comparison<ir::ComparePredicate::GE>},
    {"", "Where", 9, where},
    {"", "IsNaN", 9, isNaN},
    {"", "IsInf", 10, isInf},
    {"", "Neg", 6, neg},
    {"", "Abs", 6, abs},
    {"", "Exp", 6, unary<ir::ExpOp>},
    {"", "Log", 6, unary<ir::LogOp>},
    {"", "Sqrt", 6, unary<ir::SqrtOp>},
    {"", "Reciprocal", 6, reciprocal},
    {"", "Sin", 7, unary<ir::SinOp>},
    {"", "Erf", 9, unary<ir::ErfOp>},
    {"", "Tanh", 6, unary<ir::TanhOp>},
    {"", "Cos", 7, unary<ir::CosOp>},
    {"", "Clip", 11, clip},
    {"", "Identity", 1, identity},
    {"", "Cast", 6, castTo},
    {"", "CastLike", 15, castLike},
    {"", "Dropout", 7, dropout},
};

} // namespace

llvm::ArrayRef<OpEntry> elementwiseOps() {
  return kOps;
}

} // namespace moe::frontend
