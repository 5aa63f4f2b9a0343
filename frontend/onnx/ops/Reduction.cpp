//===- Reduction.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/OpTable.h"

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

constexpr OpEntry kOps[] = {
    {"", "ReduceSum", 1, reduce<ir::ReduceKind::Sum>}, {"", "ReduceMax", 1, reduce<ir::ReduceKind::Max>},
    {"", "ReduceMin", 1, reduce<ir::ReduceKind::Min>}, {"", "ReduceMean", 1, mean},
    {"", "ReduceSumSquare", 1, sumOfSquares},          {"", "ReduceL2", 1, norm2},
};

} // namespace

llvm::ArrayRef<OpEntry> reductionOps() {
  return kOps;
}

} // namespace moe::frontend
