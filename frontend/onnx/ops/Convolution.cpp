//===- Convolution.cpp - Convolutions as matrix products ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
// Windows are laid out as rows: [N, C, D…] becomes [N, out…, C, K…], which is a view where windows touch without
// overlap, as patch embeddings do. The rest is one product with the filters.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// One spatial dimension of a convolution.
struct Window {
  int64_t extent, size, stride, dilation;
  int64_t before = 0, after = 0; ///< zeros around it

  int64_t reach() const { return dilation * (size - 1) + 1; }
  int64_t count() const { return (extent + before + after - reach()) / stride + 1; }
};

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
    // Positions are products of both.
    if (window.size > 1 && window.dilation > kMaxElements / window.size) {
      n.fail("its dilated window is too large");
      break;
    }
    if (automatic == "NOTSET") {
      window.before = pads[d];
      window.after = pads[d + spatial];
    } else if (automatic != "VALID") {
      padAlike(window, automatic == "SAME_LOWER");
    }
    if (window.size < 1 || window.extent + window.before + window.after < window.reach())
      n.fail("its window is larger than the padded input");
  }
  return result;
}

/// [.., extent, ..] to [.., count, size, ..]: every window along dimension `axis`.
Value unfolded(NodeContext &n, Value x, int64_t axis, const Window &window) {
  Value zero = n.splat(RankedTensorType::get({}, n.element(x)), 0.0);
  auto zeros = [&](int64_t count) {
    Shape shape = n.shape(x);
    shape[axis] = count;
    return n.broadcastTo(zero, shape);
  };
  llvm::SmallVector<Value> parts;
  if (window.before > 0)
    parts.push_back(zeros(window.before));
  parts.push_back(x);
  if (window.after > 0)
    parts.push_back(zeros(window.after));
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

/// x [N, C, D…] with filters [M, C / groups, K…] and perhaps a bias [M]: [N, M, out…].
void convolution(NodeContext &n) {
  Value x = n.input(0), filters = n.input(1);
  const Shape from = n.shape(x), kernel = n.shape(filters);
  const int64_t groups = n.integer("group", 1);
  if (!n.failed() && (from.size() < 3 || kernel.size() != from.size() || groups < 1 || kernel[0] % groups != 0 ||
                      from[1] % groups != 0 || kernel[1] != from[1] / groups))
    n.fail("the filters do not fit the channels of the input");
  if (n.failed())
    return n.output(0, {});
  const auto spatial = static_cast<int64_t>(from.size()) - 2;
  std::vector<Window> all = windows(n, llvm::ArrayRef(from).drop_front(2), llvm::ArrayRef(kernel).drop_front(2));
  if (std::optional<Shape> told = n.integerList("kernel_shape"); told && *told != Shape(llvm::drop_begin(kernel, 2)))
    n.fail("its attribute 'kernel_shape' is not the shape of the filters");
  // [N, C, out1, K1, out2, K2, …], then [groups, N, out…, C / groups, K…]
  for (int64_t d = 0; d < spatial && !n.failed(); ++d)
    x = unfolded(n, x, 2 + 2 * d, all[static_cast<size_t>(d)]);
  if (n.failed())
    return n.output(0, {});
  Shape split = n.shape(x), order = {1, 0}, outputs = {from[0]};
  split[1] = kernel[1];
  split.insert(split.begin() + 1, groups);
  for (int64_t d = 0; d < spatial; ++d) {
    order.push_back(3 + 2 * d);
    outputs.push_back(all[static_cast<size_t>(d)].count());
  }
  order.push_back(2);
  for (int64_t d = 0; d < spatial; ++d)
    order.push_back(4 + 2 * d);
  const int64_t each = product(llvm::ArrayRef(kernel).drop_front()), rows = product(outputs);
  Value columns = n.transpose(n.reshape(x, split), order), result;
  if (groups == 1)
    result = n.dot(n.reshape(columns, {rows, each}), n.reshape(filters, {kernel[0], each}), {}, {}, {1}, {1});
  else
    result = n.dot(n.reshape(columns, {groups, rows, each}), n.reshape(filters, {groups, kernel[0] / groups, each}),
                   {0}, {0}, {2}, {2});
  // [groups, N, out…, M / groups] to [N, M, out…]
  Shape apart = {groups}, back = {1, 0, spatial + 2}, to = {from[0], kernel[0]};
  llvm::append_range(apart, outputs);
  apart.push_back(kernel[0] / groups);
  for (int64_t d = 0; d < spatial; ++d) {
    back.push_back(d + 2);
    to.push_back(outputs[static_cast<size_t>(d) + 1]);
  }
  if (!n.failed())
    result = n.reshape(n.transpose(n.reshape(result, apart), back), to);
  if (n.hasInput(2) && !n.failed())
    result = n.make<ir::AddOp>(result, n.broadcast(n.input(2), to, {1}));
  n.output(0, result);
}

constexpr OpEntry kOps[] = {
    {"", "Conv", 1, convolution},
};

} // namespace

llvm::ArrayRef<OpEntry> convolutionOps() {
  return kOps;
}

} // namespace moe::frontend
