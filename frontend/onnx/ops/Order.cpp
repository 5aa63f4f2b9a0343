//===- Order.cpp - Largest elements and their places --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Turns the order of numbers around, exactly: -x, and -1 - x for integers, which have one more below zero.
Value reversed(NodeContext &n, Value x) {
  if (!x || isa<FloatType>(n.element(x)))
    return n.make<ir::NegOp>(x);
  return n.make<ir::SubOp>(n.splatLike(x, -1.0), x);
}

/// The k largest or smallest along one dimension, in order, equal ones in order of index.
void topK(NodeContext &n) {
  Value x = n.input(0);
  int64_t axis = n.axis("axis", -1, n.rank(x));
  std::optional<Shape> k = n.opset < 10 ? Shape{n.integer("k", 0)} : n.integers(1);
  const bool largest = n.integer("largest", 1) != 0;
  if (!n.failed() && (!k || k->size() != 1 || (*k)[0] < 0 || (*k)[0] > n.shape(x)[axis]))
    n.fail("k must be one number, at most the extent of the dimension");
  Value rows = swapWithLast(n, x, axis);
  if (!n.failed() && !largest)
    rows = reversed(n, rows);
  Operation *sort = n.create<ir::SortOp>(rows);
  for (unsigned i = 0; i < 2; ++i) {
    Value part = sort ? slicePart(n, sort->getResult(i), n.rank(rows) - 1, 0, (*k)[0]) : Value();
    if (part && i == 0 && !largest)
      part = reversed(n, part);
    if (part && i == 1)
      part = n.cast(part, n.builder.getI64Type());
    n.output(static_cast<int>(i), part ? swapWithLast(n, part, axis) : Value());
  }
}

/// The first or last index of the largest or smallest element.
template <ir::ReduceKind best> void indexOf(NodeContext &n) {
  Value x = n.input(0);
  int64_t axis = n.axis("axis", 0, n.rank(x));
  if (n.failed())
    return n.output(0, {});
  Shape shape = n.shape(x),
        kept = llvm::to_vector(llvm::make_filter_range(firstDims(n.rank(x)), [&](int64_t dim) { return dim != axis; }));
  const bool last = n.integer("select_last_index", 0) != 0;
  Value extreme = n.broadcast(n.reduce(x, best, {axis}, /*keepDims=*/false), shape, kept);
  Value index = iota(n, shape, n.builder.getI64Type(), axis);
  Value none = n.splat(n.type(shape, n.builder.getI64Type()), last ? -1.0 : static_cast<double>(shape[axis]));
  Value candidates = n.make<ir::SelectOp>(compare(n, ir::ComparePredicate::EQ, x, extreme), index, none);
  n.output(
      0, n.reduce(candidates, last ? ir::ReduceKind::Max : ir::ReduceKind::Min, {axis}, n.integer("keepdims", 1) != 0));
}

/// values = [off, on]; a new dimension `axis` of `depth` classes.
void oneHot(NodeContext &n) {
  Value index = n.input(0), values = n.input(2);
  std::optional<double> depth = n.scalar(1);
  if (n.failed() || !depth)
    return n.output(0, {});
  const int64_t rank = n.rank(index), classes = static_cast<int64_t>(*depth);
  int64_t axis = n.axis("axis", -1, rank + 1);
  if (classes < 1)
    n.fail("the number of classes is not positive");
  if (n.shape(values) != Shape{2})
    n.fail("it needs two values, for cold and for hot places");
  if (n.failed())
    return n.output(0, {});
  index = wrapNegative(n, n.cast(index, n.builder.getI64Type()), classes);
  Shape shape = n.shape(index), dims;
  for (int64_t i = 0; i < rank; ++i)
    dims.push_back(i < axis ? i : i + 1);
  shape.insert(shape.begin() + axis, classes);
  Value hit = compare(n, ir::ComparePredicate::EQ, n.broadcast(index, shape, dims),
                      iota(n, shape, n.builder.getI64Type(), axis));
  auto value = [&](int64_t i) { return n.broadcastTo(n.reshape(slicePart(n, values, 0, i, i + 1), {}), shape); };
  n.output(0, n.make<ir::SelectOp>(hit, value(1), value(0)));
}

/// One at the first of the largest elements, zero elsewhere.
void hardmax(NodeContext &n) {
  Value x = n.input(0);
  int64_t axis = n.axis("axis", n.opset < 13 ? 1 : -1, n.rank(x));
  if (n.failed())
    return n.output(0, {});
  Shape shape = n.shape(x), flat = shape;
  if (n.opset < 13) {
    flat.assign(shape.begin(), shape.begin() + axis);
    flat.push_back(product(llvm::ArrayRef(shape).drop_front(axis)));
  }
  Value rows = n.opset < 13 ? n.reshape(x, flat) : swapWithLast(n, x, axis);
  const int64_t last = n.rank(rows) - 1;
  Shape to = n.shape(rows);
  Value largest = n.broadcastTo(n.reduce(rows, ir::ReduceKind::Max, {last}, /*keepDims=*/true), to);
  Value index = iota(n, to, n.builder.getI64Type(), last);
  Value candidates = n.make<ir::SelectOp>(compare(n, ir::ComparePredicate::EQ, rows, largest), index,
                                          n.splatLike(index, static_cast<double>(to.empty() ? 0 : to[last])));
  Value first = n.broadcastTo(n.reduce(candidates, ir::ReduceKind::Min, {last}, /*keepDims=*/true), to);
  Value hot = n.cast(compare(n, ir::ComparePredicate::EQ, index, first), n.element(x));
  n.output(0, n.opset < 13 ? n.reshape(hot, shape) : swapWithLast(n, hot, axis));
}

constexpr OpEntry kOps[] = {
    {"", "TopK", 1, topK},
    {"", "ArgMax", 1, indexOf<ir::ReduceKind::Max>},
    {"", "ArgMin", 1, indexOf<ir::ReduceKind::Min>},
    {"", "OneHot", 9, oneHot},
    {"", "Hardmax", 1, hardmax},
};

} // namespace

llvm::ArrayRef<OpEntry> orderOps() {
  return kOps;
}

} // namespace moe::frontend
