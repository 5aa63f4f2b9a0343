//===- Convolution.cpp - Convolutions as matrix products ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
// Windows are laid out as rows: [N, C, D…] becomes [N, out…, C, K…]. The rest is one product with the filters.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Windows.h"

using namespace mlir;

namespace moe::frontend {
namespace {

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
  if (!n.failed())
    x = unfolded(n, x, all, 0);
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
