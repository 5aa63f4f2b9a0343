//===- GatherScatter.cpp - Elements and blocks found by coordinates -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
// moe.gather reads rows of a table by number. Coordinates become such numbers, and the dimensions that they index one.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// A tensor seen as a table, and which of its rows each index means.
struct Rows {
  Shape table;     ///< [rows, …]
  Value number;    ///< index dimensions
  Shape remaining; ///< extents of one row
};

/// The coordinates that run along the last dimension of `indices` [b…, i…, k] name blocks of a tensor of `extents`
/// [b…, d1 … dk, …].
Rows rowsOfTuples(NodeContext &n, llvm::ArrayRef<int64_t> extents, Value indices, int64_t batchDims) {
  Shape shape = n.shape(indices);
  const auto rank = static_cast<int64_t>(extents.size());
  if (!isIndex(n.element(indices)) || shape.empty() || batchDims < 0 ||
      batchDims >= static_cast<int64_t>(shape.size()) || batchDims + shape.back() > rank ||
      extents.take_front(batchDims) != llvm::ArrayRef(shape).take_front(batchDims)) {
    n.fail("the indices do not fit the dimensions of the data");
    return {};
  }
  const int64_t width = shape.pop_back_val(), last = static_cast<int64_t>(shape.size());
  Rows rows;
  rows.remaining = Shape(extents.drop_front(batchDims + width));
  int64_t stride = 1;
  auto addTerm = [&](Value coordinate) {
    Value term = multiply(n, coordinate, static_cast<double>(stride));
    rows.number = rows.number ? n.make<ir::AddOp>(rows.number, term) : term;
  };
  for (int64_t k = width - 1; k >= 0 && !n.failed(); --k) {
    int64_t extent = extents[batchDims + k];
    Value coordinate = n.reshape(slicePart(n, indices, last, k, k + 1), shape);
    addTerm(wrapNegative(n, coordinate, extent));
    stride *= extent;
  }
  for (int64_t d = batchDims - 1; d >= 0 && !n.failed(); --d) {
    addTerm(iota(n, shape, n.element(indices), d));
    stride *= extents[d];
  }
  if (!rows.number)
    rows.number = n.splat(n.type(shape, n.element(indices)), 0.0);
  rows.table = {stride};
  llvm::append_range(rows.table, rows.remaining);
  return rows;
}

/// Index `indices` [i…] along `axis` of a tensor of `extents`, the other coordinates being those of the index itself.
Rows rowsOfElements(NodeContext &n, llvm::ArrayRef<int64_t> extents, Value indices, int64_t axis) {
  Shape shape = n.shape(indices);
  bool fits = isIndex(n.element(indices)) && shape.size() == extents.size();
  for (size_t d = 0; fits && d < shape.size(); ++d)
    fits = static_cast<int64_t>(d) == axis || shape[d] <= extents[d];
  if (!fits) {
    n.fail("the indices do not fit the dimensions of the data");
    return {};
  }
  Rows rows;
  int64_t stride = 1;
  for (auto d = static_cast<int64_t>(shape.size()) - 1; d >= 0 && !n.failed(); --d) {
    Value coordinate = d == axis ? wrapNegative(n, indices, extents[d]) : iota(n, shape, n.element(indices), d);
    Value term = multiply(n, coordinate, static_cast<double>(stride));
    rows.number = rows.number ? n.make<ir::AddOp>(rows.number, term) : term;
    stride *= extents[d];
  }
  rows.table = {stride};
  return rows;
}

Value gatherRows(NodeContext &n, Value data, const Rows &rows) {
  return n.failed() ? Value() : n.make<ir::GatherOp>(n.reshape(data, rows.table), rows.number);
}

void gatherND(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1);
  if (n.failed())
    return n.output(0, {});
  n.output(0, gatherRows(n, data, rowsOfTuples(n, n.shape(data), indices, n.integer("batch_dims", 0))));
}

void gatherElements(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1);
  int64_t axis = n.axis("axis", 0, n.rank(data));
  if (n.failed())
    return n.output(0, {});
  n.output(0, gatherRows(n, data, rowsOfElements(n, n.shape(data), indices, axis)));
}

/// Rows of `table` [R, …] replaced by rows of `terms` [count, …] at places known at compile time; the last one wins.
Value overwritten(NodeContext &n, Value table, Value terms, const ir::HostTensor &places) {
  const int64_t rows = n.shape(table).front();
  if (!mayList(n, rows))
    return {};
  Shape source = firstDims(rows);
  for (int64_t i = 0; i < places.size(); ++i) {
    if (places.ints[static_cast<size_t>(i)] < 0 || places.ints[static_cast<size_t>(i)] >= rows) {
      n.fail("index " + llvm::Twine(places.ints[static_cast<size_t>(i)]) + " is outside of the data");
      return {};
    }
    source[static_cast<size_t>(places.ints[static_cast<size_t>(i)])] = rows + i;
  }
  return pick(n, n.make<ir::ConcatOp>(ValueRange{table, terms}, 0), 0, source);
}

/// Data [R, …] with the updates [i…, …] at rows `rows.number` [i…]. For `none` equal indices leave the update open.
/// Sums of floats, and indices known at compile time that overwrite, cost what they touch; all else compares every
/// place with every update.
Value scatterRows(NodeContext &n, Value data, Value updates, const Rows &rows, llvm::StringRef reduction) {
  if (n.failed())
    return {};
  Shape result = n.shape(data);
  Value table = n.reshape(data, rows.table);
  const int64_t count = product(n.shape(rows.number)), places = rows.table.front();
  Shape flat = {count};
  llvm::append_range(flat, rows.remaining);
  Value number = n.reshape(rows.number, {count}), terms = n.reshape(updates, flat);
  if (n.failed() || count == 0)
    return data;
  if (reduction == "add" && isa<FloatType>(n.element(data))) {
    Value sum = n.make<ir::ScatterAddOp>(n.type(rows.table, n.element(data)), number, terms, Value());
    return n.reshape(n.make<ir::AddOp>(table, sum), result);
  }
  if (std::optional<ir::HostTensor> known = reduction == "none" ? n.program.evaluate(number) : std::nullopt)
    return n.reshape(overwritten(n, table, terms, *known), result);
  // Which updates arrive at which place: [R, count]
  Value hit = compare(n, ir::ComparePredicate::EQ, n.broadcast(number, {places, count}, {1}),
                      iota(n, {places, count}, n.element(number), 0));
  if (reduction == "none") {
    // The last update of a place wins; none is -1.
    Value order = n.make<ir::SelectOp>(hit, iota(n, {places, count}, n.builder.getI64Type(), 1),
                                       n.splat(n.type({places, count}, n.builder.getI64Type()), -1.0));
    Value source = n.reduce(order, ir::ReduceKind::Max, {1}, /*keepDims=*/false);
    Value found = compare(n, ir::ComparePredicate::GE, source, n.splatLike(source, 0.0));
    Value moved = n.make<ir::GatherOp>(terms, source);
    return n.reshape(n.make<ir::SelectOp>(n.broadcast(found, rows.table, {0}), moved, table), result);
  }
  if (reduction != "add" && reduction != "mul" && reduction != "max" && reduction != "min") {
    n.fail("the reduction '" + reduction + "' is not supported");
    return {};
  }
  Shape pairs = {places, count}, rowDims = {0}, termDims = {1};
  for (auto [d, extent] : llvm::enumerate(rows.remaining)) {
    pairs.push_back(extent);
    rowDims.push_back(static_cast<int64_t>(d) + 2);
    termDims.push_back(static_cast<int64_t>(d) + 2);
  }
  Value own = n.broadcast(terms, pairs, termDims), arrives = n.broadcast(hit, pairs, {0, 1});
  if (reduction == "add") {
    Value sum = n.make<ir::SelectOp>(arrives, own, n.splatLike(own, 0.0));
    return n.reshape(n.make<ir::AddOp>(table, n.reduce(sum, ir::ReduceKind::Sum, {1}, false)), result);
  }
  if (reduction == "mul") {
    Value factors = n.make<ir::SelectOp>(arrives, own, n.splatLike(own, 1.0));
    Value product = n.reshape(productAlong(n, factors, 1), rows.table);
    return n.reshape(n.make<ir::MulOp>(table, product), result);
  }
  // Places that nothing arrives at combine with themselves.
  Value candidates = n.make<ir::SelectOp>(arrives, own, n.broadcast(table, pairs, rowDims));
  return n.reshape(reduction == "max" ? n.make<ir::MaxOp>(table, n.reduce(candidates, ir::ReduceKind::Max, {1}, false))
                                      : n.make<ir::MinOp>(table, n.reduce(candidates, ir::ReduceKind::Min, {1}, false)),
                   result);
}

void scatterND(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1), updates = n.input(2);
  if (n.failed())
    return n.output(0, {});
  Rows rows = rowsOfTuples(n, n.shape(data), indices, 0);
  n.output(0, scatterRows(n, data, updates, rows, n.text("reduction", "none")));
}

void scatterElements(NodeContext &n) {
  Value data = n.input(0), indices = n.input(1), updates = n.input(2);
  int64_t axis = n.axis("axis", 0, n.rank(data));
  if (n.failed())
    return n.output(0, {});
  Rows rows = rowsOfElements(n, n.shape(data), indices, axis);
  n.output(0, scatterRows(n, data, updates, rows, n.text("reduction", "none")));
}

constexpr OpEntry kOps[] = {
    {"", "GatherND", 11, gatherND},      {"", "GatherElements", 11, gatherElements},
    {"", "ScatterND", 11, scatterND},    {"", "ScatterElements", 11, scatterElements},
    {"", "Scatter", 9, scatterElements},
};

} // namespace

llvm::ArrayRef<OpEntry> gatherScatterOps() {
  return kOps;
}

} // namespace moe::frontend
