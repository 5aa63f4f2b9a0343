//===- Support.cpp - What handlers of several files share ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {

int64_t product(llvm::ArrayRef<int64_t> extents) {
  int64_t result = 1;
  for (int64_t extent : extents)
    result *= extent;
  return result;
}

Shape firstDims(int64_t count) {
  return llvm::to_vector(llvm::seq<int64_t>(0, count));
}

Value swapWithLast(NodeContext &n, Value x, int64_t axis) {
  if (n.failed())
    return {};
  Shape permutation = firstDims(n.rank(x));
  std::swap(permutation[axis], permutation.back());
  return n.transpose(x, permutation);
}

void passOn(NodeContext &n) {
  if (n.hasInput(0) && n.wantsOutput(0) && (n.isSequence(0) || n.program.isAbsent(n.scope, n.node.input(0))))
    return n.program.share(n.scope, n.node.input(0), n.scope, n.node.output(0));
  n.output(0, n.input(0));
}

llvm::SmallVector<Value> broadcastOperands(NodeContext &n) {
  llvm::SmallVector<Value> values;
  for (int i = 0; i < n.node.input_size(); ++i)
    values.push_back(n.input(i));
  if (n.failed())
    return {};
  Shape shape = n.commonShape(values);
  for (Value &value : values)
    value = n.failed() ? Value() : n.broadcastTo(value, shape);
  return n.failed() ? llvm::SmallVector<Value>() : values;
}

namespace {

/// True if the integers are proven not to be negative by how they are computed; `depth` operations are looked at.
bool isNonNegative(NodeContext &n, Value value, int depth = 12) {
  const auto type = dyn_cast<IntegerType>(n.element(value));
  if (type && type.isUnsigned())
    return true;
  // Narrow numbers may wrap around on their way.
  if (isa<BlockArgument>(value) || !type || (type.getWidth() > 1 && type.getWidth() < 32))
    return false;
  if (std::optional<ir::HostTensor> known = n.program.evaluate(value))
    return !known->isFloat && llvm::all_of(known->ints, [](int64_t element) { return element >= 0; });
  Operation *op = value.getDefiningOp();
  if (isa<ir::IotaOp>(op))
    return true;
  if (auto cast = dyn_cast<ir::CastOp>(op); cast && ir::typeOf(cast.getInput()).getElementType().isInteger(1))
    return true;
  if (depth == 0 || !isa<ir::CastOp, ir::BroadcastOp, ir::ReshapeOp, ir::TransposeOp, ir::SliceOp, ir::ConcatOp,
                         ir::AddOp, ir::MulOp, ir::MaxOp>(op))
    return false;
  return llvm::all_of(op->getOperands(), [&](Value operand) {
    return isa<IntegerType>(n.element(operand)) && isNonNegative(n, operand, depth - 1);
  });
}

} // namespace

Value wrapNegative(NodeContext &n, Value index, int64_t extent) {
  if (!index || isa<BlockArgument>(index) || isNonNegative(n, index))
    return index;
  Value negative = compare(n, ir::ComparePredicate::LT, index, n.splatLike(index, 0.0));
  return n.make<ir::SelectOp>(negative, add(n, index, static_cast<double>(extent)), index);
}

Value iota(NodeContext &n, llvm::ArrayRef<int64_t> shape, Type element, int64_t dim) {
  RankedTensorType type = n.type(shape, element);
  return n.make<ir::IotaOp>(type, dim);
}

Value pick(NodeContext &n, Value x, int64_t axis, llvm::ArrayRef<int64_t> positions) {
  if (!x)
    return {};
  Shape toFront = {axis}, back;
  for (int64_t i = 0; i < n.rank(x); ++i)
    if (i != axis)
      toFront.push_back(i);
  for (int64_t i = 1; i <= axis; ++i)
    back.push_back(i);
  back.push_back(0);
  for (int64_t i = axis + 1; i < n.rank(x); ++i)
    back.push_back(i);
  Value rows = n.make<ir::GatherOp>(n.transpose(x, toFront), n.constant(positions));
  return n.transpose(rows, back);
}

Value slicePart(NodeContext &n, Value x, int64_t axis, int64_t from, int64_t to) {
  if (!x)
    return {};
  Shape limits = n.shape(x), starts(limits.size(), 0), strides(limits.size(), 1);
  if (from == 0 && to == limits[axis])
    return x;
  starts[axis] = from;
  limits[axis] = to;
  return n.make<ir::SliceOp>(x, starts, limits, strides);
}

Value productAlong(NodeContext &n, Value x, int64_t dim) {
  while (!n.failed() && n.shape(x)[dim] > 1) {
    const int64_t extent = n.shape(x)[dim], half = extent / 2;
    Value pairs = n.make<ir::MulOp>(slicePart(n, x, dim, 0, half), slicePart(n, x, dim, half, 2 * half));
    x = extent % 2 == 0 ? pairs : n.make<ir::ConcatOp>(ValueRange{pairs, slicePart(n, x, dim, 2 * half, extent)}, dim);
  }
  if (!n.failed() && n.shape(x)[dim] == 0) {
    Shape one = n.shape(x);
    one[dim] = 1;
    x = n.splat(n.type(one, n.element(x)), 1.0);
  }
  return x;
}

Value compare(NodeContext &n, ir::ComparePredicate predicate, Value a, Value b) {
  return n.make<ir::CompareOp>(predicate, a, b);
}

Value add(NodeContext &n, Value a, double b) {
  return b == 0.0 ? a : n.make<ir::AddOp>(a, n.splatLike(a, b));
}

Value multiply(NodeContext &n, Value a, double b) {
  return b == 1.0 ? a : n.make<ir::MulOp>(a, n.splatLike(a, b));
}

Value negated(NodeContext &n, Value x) {
  if (!x || isa<FloatType>(n.element(x)))
    return n.make<ir::NegOp>(x);
  return n.make<ir::SubOp>(n.splatLike(x, 0.0), x);
}

Value magnitude(NodeContext &n, Value x) {
  if (x && n.element(x).isUnsignedInteger())
    return x;
  if (!x || isa<FloatType>(n.element(x)))
    return n.make<ir::AbsOp>(x);
  return n.make<ir::MaxOp>(x, negated(n, x));
}

Value detached(NodeContext &n, Value x) {
  return n.make<ir::ScaleGradientOp>(x, n.builder.getF64FloatAttr(0.0));
}

} // namespace moe::frontend
