//===- Reduction.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {
namespace {

struct Reduction {
  Value x;
  Shape dims;
  bool keepDims = true;
  double count = 1; ///< elements that are combined into one
};

/// The axes are an attribute or, later, an operand; none means all, or nothing with `noop_with_empty_axes`.
Reduction reduction(NodeContext &n) {
  Reduction r;
  r.x = n.input(0);
  r.keepDims = n.integer("keepdims", 1) != 0;
  if (n.failed())
    return r;
  r.dims = n.axes(1, n.rank(r.x)).value_or(Shape());
  if (r.dims.empty() && n.integer("noop_with_empty_axes", 0) == 0)
    r.dims = llvm::to_vector(llvm::seq<int64_t>(0, n.rank(r.x)));
  Shape shape = n.shape(r.x);
  for (int64_t dim : r.dims)
    if (!n.failed())
      r.count *= static_cast<double>(shape[dim]);
  return r;
}

template <ir::ReduceKind kind> void reduce(NodeContext &n) {
  Reduction r = reduction(n);
  n.output(0, n.failed() ? Value() : n.reduce(r.x, kind, r.dims, r.keepDims));
}

void mean(NodeContext &n) {
  Reduction r = reduction(n);
  Value sum = n.failed() ? Value() : n.reduce(r.x, ir::ReduceKind::Sum, r.dims, r.keepDims);
  n.output(0, n.make<ir::DivOp>(sum, n.splatLike(sum, r.count)));
}

void sumOfSquares(NodeContext &n) {
  Reduction r = reduction(n);
  n.output(0, n.failed() ? Value() : n.reduce(n.make<ir::MulOp>(r.x, r.x), ir::ReduceKind::Sum, r.dims, r.keepDims));
}

void norm2(NodeContext &n) {
  Reduction r = reduction(n);
  Value sum = n.failed() ? Value() : n.reduce(n.make<ir::MulOp>(r.x, r.x), ir::ReduceKind::Sum, r.dims, r.keepDims);
  n.output(0, n.make<ir::SqrtOp>(sum));
}

void norm1(NodeContext &n) {
  Reduction r = reduction(n);
  n.output(0, n.failed() ? Value() : n.reduce(magnitude(n, r.x), ir::ReduceKind::Sum, r.dims, r.keepDims));
}

void logOfSum(NodeContext &n) {
  Reduction r = reduction(n);
  n.output(0, n.failed() ? Value() : n.make<ir::LogOp>(n.reduce(r.x, ir::ReduceKind::Sum, r.dims, r.keepDims)));
}

/// max + log sum exp(x - max); where the maximum is infinite, the maximum.
void logOfSumOfExponentials(NodeContext &n) {
  Reduction r = reduction(n);
  if (n.failed())
    return n.output(0, {});
  // The maximum shifts both terms, so that no gradient passes through it.
  Value largest = detached(n, n.reduce(r.x, ir::ReduceKind::Max, r.dims, /*keepDims=*/true));
  Value shift = n.make<ir::SelectOp>(n.make<ir::IsFiniteOp>(largest), largest, n.splatLike(largest, 0.0));
  Value terms = n.make<ir::ExpOp>(n.make<ir::SubOp>(r.x, n.broadcastTo(shift, n.shape(r.x))));
  Value sum = n.make<ir::LogOp>(n.reduce(terms, ir::ReduceKind::Sum, r.dims, /*keepDims=*/true));
  Value result = n.make<ir::AddOp>(sum, shift);
  Shape to;
  for (auto [i, extent] : llvm::enumerate(n.shape(result)))
    if (r.keepDims || !llvm::is_contained(r.dims, static_cast<int64_t>(i)))
      to.push_back(extent);
  n.output(0, n.failed() ? Value() : n.reshape(result, to));
}

/// Halves the dimension until one element is left.
void prod(NodeContext &n) {
  Reduction r = reduction(n);
  Value x = r.x;
  for (int64_t dim : r.dims)
    x = productAlong(n, x, dim);
  Shape to;
  for (auto [i, extent] : llvm::enumerate(n.shape(x)))
    if (r.keepDims || !llvm::is_contained(r.dims, static_cast<int64_t>(i)))
      to.push_back(extent);
  n.output(0, n.failed() ? Value() : n.reshape(x, to));
}

constexpr OpEntry kOps[] = {
    {"", "ReduceSum", 1, reduce<ir::ReduceKind::Sum>},
    {"", "ReduceMax", 1, reduce<ir::ReduceKind::Max>},
    {"", "ReduceMin", 1, reduce<ir::ReduceKind::Min>},
    {"", "ReduceMean", 1, mean},
    {"", "ReduceSumSquare", 1, sumOfSquares},
    {"", "ReduceL2", 1, norm2},
    {"", "ReduceL1", 1, norm1},
    {"", "ReduceLogSum", 1, logOfSum},
    {"", "ReduceLogSumExp", 1, logOfSumOfExponentials},
    {"", "ReduceProd", 1, prod},
};

} // namespace

llvm::ArrayRef<OpEntry> reductionOps() {
  return kOps;
}

} // namespace moe::frontend
