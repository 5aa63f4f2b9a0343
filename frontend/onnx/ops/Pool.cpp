//===- Pool.cpp - The mean or the maximum of every window ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Windows.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace moe::frontend {
namespace {

/// Windows over the spatial dimensions of the operand [N, C, D…]; none if that failed.
std::vector<Window> windowsOfPool(NodeContext &n) {
  Value x = n.input(0);
  const Shape sizes = n.integerList("kernel_shape").value_or(Shape());
  if (!n.failed() && (n.rank(x) < 3 || static_cast<int64_t>(sizes.size()) != n.rank(x) - 2))
    n.fail("its operand must be [N, C, …], with a size of the window for each spatial dimension");
  return n.failed() ? std::vector<Window>() : windows(n, llvm::ArrayRef(n.shape(x)).drop_front(2), sizes);
}

/// The dimensions of [N, C, count1, size1, …] that are within windows.
Shape withinWindows(llvm::ArrayRef<Window> windows) {
  Shape dims;
  for (size_t d = 0; d < windows.size(); ++d)
    dims.push_back(3 + 2 * static_cast<int64_t>(d));
  return dims;
}

/// How many elements each window has along a dimension; those of the padding count if `padded`.
Shape elementsOf(const Window &window, bool padded) {
  const int64_t first = padded ? -window.before : 0, last = window.extent + (padded ? window.after : 0);
  Shape counts;
  for (int64_t i = 0; i < window.count(); ++i) {
    counts.push_back(0);
    for (int64_t k = 0; k < window.size; ++k) {
      const int64_t at = i * window.stride + k * window.dilation - window.before;
      counts.back() += at >= first && at < last ? 1 : 0;
    }
  }
  return counts;
}

void averagePool(NodeContext &n) {
  std::vector<Window> all = windowsOfPool(n);
  const bool padded = n.integer("count_include_pad", 0) != 0;
  Value sums = n.failed() ? Value() : unfolded(n, n.input(0), all, 0);
  if (n.failed())
    return n.output(0, {});
  Value result = n.reduce(sums, ir::ReduceKind::Sum, withinWindows(all), false);
  for (auto [d, window] : llvm::enumerate(all)) {
    if (!mayList(n, window.count() * window.size))
      return n.output(0, {});
    const Shape counts = elementsOf(window, padded);
    if (llvm::is_contained(counts, 0))
      n.fail("one of its windows is all padding, which has no mean");
    if (n.failed())
      return n.output(0, {});
    Value each = n.cast(n.constant(counts), n.element(result));
    result = n.make<ir::DivOp>(result, n.broadcast(each, n.shape(result), {2 + static_cast<int64_t>(d)}));
  }
  n.output(0, result);
}

void maxPool(NodeContext &n) {
  std::vector<Window> all = windowsOfPool(n);
  if (n.node.output_size() > 1 && !n.node.output(1).empty())
    n.fail("where its maxima lie (the output 'Indices') is not supported");
  if (n.failed())
    return n.output(0, {});
  Value x = n.input(0);
  const Type element = n.element(x);
  double lowest = -std::numeric_limits<double>::infinity();
  if (!isa<FloatType>(element))
    lowest = element.isUnsignedInteger() ? 0 : -std::ldexp(1.0, static_cast<int>(element.getIntOrFloatBitWidth()) - 1);
  x = unfolded(n, x, all, lowest);
  n.output(0, n.failed() ? Value() : n.reduce(x, ir::ReduceKind::Max, withinWindows(all), false));
}

constexpr OpEntry kOps[] = {
    {"", "AveragePool", 1, averagePool},
    {"", "MaxPool", 1, maxPool},
};

} // namespace

llvm::ArrayRef<OpEntry> poolOps() {
  return kOps;
}

} // namespace moe::frontend
