//===- Pad.cpp - Tensors that grow: padding and repetition --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Where element i of a padded dimension comes from, for positions outside of [0, extent) too.
int64_t source(llvm::StringRef mode, int64_t position, int64_t extent) {
  if (mode == "edge")
    return std::clamp<int64_t>(position, 0, extent - 1);
  if (mode == "wrap")
    return ((position % extent) + extent) % extent;
  // reflect: the edge itself is not repeated.
  const int64_t period = std::max<int64_t>(2 * (extent - 1), 1);
  const int64_t phase = ((position % period) + period) % period;
  return phase < extent ? phase : period - phase;
}

/// One dimension grown by `before` and `after`; negative numbers cut.
Value padded(NodeContext &n, Value x, int64_t axis, int64_t before, int64_t after, llvm::StringRef mode, Value fill) {
  if (n.failed())
    return {};
  const int64_t extent = n.shape(x)[axis];
  if (std::max(before, after) > kMaxElements || std::min(before, after) < -kMaxElements) {
    n.fail("a number of elements to add or to cut is out of range");
    return {};
  }
  if (extent + before + after < 0 || (mode != "constant" && extent == 0)) {
    n.fail("it cuts more than there is, or repeats nothing");
    return {};
  }
  if (mode != "constant" && (before > 0 || after > 0)) {
    Shape positions;
    if (!mayList(n, extent + before + after))
      return {};
    for (int64_t i = -before; i < extent + after; ++i)
      positions.push_back(source(mode, i, extent));
    return pick(n, x, axis, positions);
  }
  Value inner = slicePart(n, x, axis, std::max<int64_t>(-before, 0), std::min(extent + after, extent));
  auto block = [&](int64_t count) {
    Shape shape = n.shape(inner);
    shape[axis] = count;
    return n.broadcastTo(fill, shape);
  };
  llvm::SmallVector<Value> parts;
  if (before > 0)
    parts.push_back(block(before));
  parts.push_back(inner);
  if (after > 0)
    parts.push_back(block(after));
  return n.failed() || parts.size() == 1 ? inner : n.make<ir::ConcatOp>(ValueRange(parts), axis);
}

void pad(NodeContext &n) {
  Value x = n.input(0);
  const std::string mode = n.text("mode", "constant");
  std::optional<Shape> pads = n.opset < 11 ? n.integerList("pads") : n.integers(1);
  Shape axes = firstDims(n.rank(x));
  if (n.hasInput(3))
    axes = n.integers(3).value_or(axes);
  if (mode != "constant" && mode != "edge" && mode != "wrap" && mode != "reflect")
    n.fail("the mode '" + mode + "' is unknown");
  if (!n.failed() && (!pads || pads->size() != 2 * axes.size()))
    n.fail("it needs two numbers for each dimension");
  if (n.failed() || !pads)
    return n.output(0, {});
  Value fill = n.hasInput(2) ? n.reshape(n.input(2), {})
                             : n.splat(RankedTensorType::get({}, n.element(x)), n.real("value", 0.0));
  for (size_t i = 0; i < axes.size() && !n.failed(); ++i)
    x = padded(n, x, n.normalizeAxis(axes[i], n.rank(x)), (*pads)[i], (*pads)[i + axes.size()], mode, fill);
  n.output(0, x);
}

/// Dimension i is repeated counts[i] times: [d] to [count, d] to [count d].
void tile(NodeContext &n) {
  Value x = n.input(0);
  std::optional<Shape> counts = n.integers(1);
  if (!n.failed() && (!counts || static_cast<int64_t>(counts->size()) != n.rank(x)))
    n.fail("it needs one number for each dimension");
  if (n.failed() || !counts)
    return n.output(0, {});
  Shape wide, dims, to;
  for (auto [extent, count] : llvm::zip_equal(n.shape(x), *counts)) {
    wide.push_back(count);
    dims.push_back(static_cast<int64_t>(wide.size()));
    wide.push_back(extent);
  }
  n.type(wide, n.element(x));
  for (size_t i = 0; i < wide.size() && !n.failed(); i += 2)
    to.push_back(wide[i] * wide[i + 1]);
  n.output(0, n.failed() ? Value() : n.reshape(n.broadcast(x, wide, dims), to));
}

/// Ones on diagonal k of a matrix of the operand's shape.
void eyeLike(NodeContext &n) {
  Value x = n.input(0);
  Type element =
      n.attribute("dtype") ? n.program.elementType(static_cast<int32_t>(n.integer("dtype", 0))) : n.element(x);
  if (!n.failed() && (n.rank(x) != 2 || !element))
    n.fail("its operand is no matrix, or its element type is not supported");
  if (n.failed())
    return n.output(0, {});
  Value row = iota(n, n.shape(x), n.builder.getI64Type(), 0), column = iota(n, n.shape(x), n.builder.getI64Type(), 1);
  Value diagonal = add(n, row, static_cast<double>(n.integer("k", 0)));
  n.output(0, n.cast(compare(n, ir::ComparePredicate::EQ, column, diagonal), element));
}

constexpr OpEntry kOps[] = {
    {"", "Pad", 2, pad},
    {"", "Tile", 6, tile},
    {"", "EyeLike", 9, eyeLike},
};

} // namespace

llvm::ArrayRef<OpEntry> padOps() {
  return kOps;
}

} // namespace moe::frontend
