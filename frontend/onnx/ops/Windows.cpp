//===- Windows.cpp ------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ops/Windows.h"

#include "frontend/onnx/OpTable.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Attribute `name` with one positive number for each spatial dimension; ones if it is absent.
Shape positive(NodeContext &n, llvm::StringRef name, size_t spatial) {
  Shape values = n.integerList(name).value_or(Shape(spatial, 1));
  if (values.size() != spatial || llvm::any_of(values, [](int64_t value) { return value < 1 || value > kMaxElements; }))
    n.fail("its attribute '" + name + "' needs one positive number for each spatial dimension");
  return values;
}

/// Zeros that `auto_pad` asks for, so that there are extent / stride windows, rounded up.
void padAlike(Window &window, bool moreBefore) {
  const int64_t outputs = (window.extent + window.stride - 1) / window.stride;
  const int64_t total = std::max<int64_t>((outputs - 1) * window.stride + window.reach() - window.extent, 0);
  window.before = moreBefore ? (total + 1) / 2 : total / 2;
  window.after = total - window.before;
}

/// Makes room for a last window that is not whole, unless it would start behind the tensor.
void completeLast(Window &window) {
  const int64_t start = window.count() * window.stride, end = window.extent + window.before + window.after;
  if ((end - window.reach()) % window.stride != 0 && start < window.extent + window.before)
    window.beyond = start + window.reach() - end;
}

} // namespace

std::vector<Window> windows(NodeContext &n, llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<int64_t> sizes) {
  const size_t spatial = extents.size();
  Shape strides = positive(n, "strides", spatial), dilations = positive(n, "dilations", spatial);
  Shape pads = n.integerList("pads").value_or(Shape(2 * spatial, 0));
  const std::string automatic = n.text("auto_pad", "NOTSET");
  if (pads.size() != 2 * spatial || llvm::any_of(pads, [](int64_t pad) { return pad < 0 || pad > kMaxElements; }))
    n.fail("its attribute 'pads' needs two numbers for each spatial dimension, none negative");
  if (automatic != "NOTSET" && automatic != "VALID" && automatic != "SAME_UPPER" && automatic != "SAME_LOWER")
    n.fail("the padding '" + automatic + "' is unknown");
  std::vector<Window> result;
  for (size_t d = 0; d < spatial && !n.failed(); ++d) {
    Window &window = result.emplace_back(extents[d], sizes[d], strides[d], dilations[d]);
    bool roundUp = false;
    // Positions are products of both.
    if (window.size > 1 && window.dilation > kMaxElements / window.size) {
      n.fail("its dilated window is too large");
      break;
    }
    if (automatic == "NOTSET") {
      window.before = pads[d];
      window.after = pads[d + spatial];
      roundUp = n.integer("ceil_mode", 0) != 0;
    } else if (automatic != "VALID") {
      padAlike(window, automatic == "SAME_LOWER");
    }
    if (window.size < 1 || window.extent + window.before + window.after < window.reach())
      n.fail("its window is larger than the padded input");
    else if (roundUp)
      completeLast(window);
  }
  return result;
}

/// [.., extent, ..] to [.., count, size, ..]: every window along dimension `axis`.
static Value unfoldedAlong(NodeContext &n, Value x, int64_t axis, const Window &window, double filler) {
  Value number = n.splat(RankedTensorType::get({}, n.element(x)), filler);
  auto around = [&](int64_t count) {
    Shape shape = n.shape(x);
    shape[axis] = count;
    return n.broadcastTo(number, shape);
  };
  llvm::SmallVector<Value> parts;
  if (window.before > 0)
    parts.push_back(around(window.before));
  parts.push_back(x);
  if (window.after + window.beyond > 0)
    parts.push_back(around(window.after + window.beyond));
  if (parts.size() > 1)
    x = n.make<ir::ConcatOp>(ValueRange(parts), axis);
  if (n.failed())
    return {};
  const int64_t count = window.count();
  if (window.dilation == 1 && (window.stride == window.size || count == 1)) {
    x = slicePart(n, x, axis, 0, count * window.size);
  } else if (window.size == 1) {
    Shape limits = n.shape(x), starts(limits.size(), 0), strides(limits.size(), 1);
    limits[axis] = (count - 1) * window.stride + 1;
    strides[axis] = window.stride;
    x = n.make<ir::SliceOp>(x, starts, limits, strides);
  } else {
    Shape positions;
    if (!mayList(n, count) || !mayList(n, window.size) || !mayList(n, count * window.size))
      return {};
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < window.size; ++k)
        positions.push_back(i * window.stride + k * window.dilation);
    x = pick(n, x, axis, positions);
  }
  if (n.failed())
    return {};
  Shape split = n.shape(x);
  split[axis] = window.size;
  split.insert(split.begin() + axis, count);
  return n.reshape(x, split);
}

Value unfolded(NodeContext &n, Value x, llvm::ArrayRef<Window> windows, double filler) {
  for (auto [d, window] : llvm::enumerate(windows))
    if (!n.failed())
      x = unfoldedAlong(n, x, 2 + 2 * static_cast<int64_t>(d), window, filler);
  return n.failed() ? Value() : x;
}

} // namespace moe::frontend
