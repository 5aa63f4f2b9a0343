//===- Normalization.cpp - Normalisations other than that of layers -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {
namespace {

Value meanOver(NodeContext &n, Value x, llvm::ArrayRef<int64_t> dims) {
  double count = 1.0;
  for (int64_t dim : dims)
    count *= x ? static_cast<double>(n.shape(x)[dim]) : 1.0;
  Value sum = n.reduce(x, ir::ReduceKind::Sum, dims, /*keepDims=*/true);
  return n.make<ir::DivOp>(sum, n.splatLike(sum, count));
}

/// Repeats dimensions of extent 1 as in `like`.
Value spread(NodeContext &n, Value x, Value like) {
  return n.failed() ? Value() : n.broadcastTo(x, n.shape(like));
}

/// (x - mean) / sqrt(variance + epsilon) over `dims`.
Value standardized(NodeContext &n, Value x, llvm::ArrayRef<int64_t> dims, double epsilon) {
  Value centred = n.make<ir::SubOp>(x, spread(n, meanOver(n, x, dims), x));
  Value variance = meanOver(n, n.make<ir::MulOp>(centred, centred), dims);
  return n.make<ir::MulOp>(centred, spread(n, n.make<ir::RsqrtOp>(add(n, variance, epsilon)), x));
}

/// A vector over dimension 1 as a tensor of the shape of `like`.
Value perChannel(NodeContext &n, Value vector, Value like) {
  return n.failed() ? Value() : n.broadcast(vector, n.shape(like), {1});
}

/// x / sqrt(mean x^2 + epsilon) over the dimensions from `axis` on, in float32 or wider, times the scale.
void rmsNormalization(NodeContext &n) {
  Value x = n.input(0), scale = n.input(1);
  int64_t axis = n.axis("axis", -1, n.rank(x));
  if (n.failed())
    return n.output(0, {});
  Type own = n.element(x);
  Value wide = own.getIntOrFloatBitWidth() < 32 ? n.cast(x, n.builder.getF32Type()) : x;
  Shape dims = llvm::to_vector(llvm::seq<int64_t>(axis, n.rank(x)));
  Value power = meanOver(n, n.make<ir::MulOp>(wide, wide), dims);
  Value factor = n.make<ir::RsqrtOp>(add(n, power, n.real("epsilon", 1e-5)));
  Value normal = n.make<ir::MulOp>(wide, spread(n, factor, wide));
  if (!n.failed())
    normal = n.cast(normal, n.element(scale));
  n.output(0, n.make<ir::MulOp>(normal, spread(n, scale, x)));
}

/// Each of `num_groups` of channels [N, C, …] by itself. Up to opset 20 scale and bias are one number per group.
void groupNormalization(NodeContext &n) {
  Value x = n.input(0), scale = n.input(1), bias = n.input(2);
  const int64_t groups = n.integer("num_groups", 0);
  Shape shape = n.shape(x);
  if (!n.failed() && (shape.size() < 2 || groups < 1 || shape[1] % groups != 0))
    n.fail("the channels do not divide into the groups");
  if (n.failed())
    return n.output(0, {});
  Shape split = {shape[0], groups, shape[1] / groups};
  split.append(shape.begin() + 2, shape.end());
  Value parts = n.reshape(x, split);
  Value normal = standardized(n, parts, llvm::to_vector(llvm::seq<int64_t>(2, n.rank(parts))), n.real("epsilon", 1e-5));
  if (!n.failed() && n.shape(scale) != Shape{shape[1]}) {
    normal = n.make<ir::AddOp>(n.make<ir::MulOp>(normal, perChannel(n, scale, parts)), perChannel(n, bias, parts));
    return n.output(0, n.reshape(normal, shape));
  }
  normal = n.reshape(normal, shape);
  n.output(0, n.make<ir::AddOp>(n.make<ir::MulOp>(normal, perChannel(n, scale, x)), perChannel(n, bias, x)));
}

void instanceNormalization(NodeContext &n) {
  Value x = n.input(0), scale = n.input(1), bias = n.input(2);
  if (!n.failed() && n.rank(x) < 2)
    n.fail("its operand has no channels");
  if (n.failed())
    return n.output(0, {});
  Value normal = standardized(n, x, llvm::to_vector(llvm::seq<int64_t>(2, n.rank(x))), n.real("epsilon", 1e-5));
  n.output(0, n.make<ir::AddOp>(n.make<ir::MulOp>(normal, perChannel(n, scale, x)), perChannel(n, bias, x)));
}

/// By stored statistics; the form that updates them is no function of its operands.
void batchNormalization(NodeContext &n) {
  Value x = n.input(0), scale = n.input(1), bias = n.input(2), mean = n.input(3), variance = n.input(4);
  if (n.integer("training_mode", 0) != 0)
    n.fail("statistics that change while training are not supported");
  if (!n.failed() && n.rank(x) < 2)
    n.fail("its operand has no channels");
  Value factor = n.make<ir::MulOp>(scale, n.make<ir::RsqrtOp>(add(n, variance, n.real("epsilon", 1e-5))));
  Value centred = n.make<ir::SubOp>(x, perChannel(n, mean, x));
  n.output(0, n.make<ir::AddOp>(n.make<ir::MulOp>(centred, perChannel(n, factor, x)), perChannel(n, bias, x)));
}

void meanVarianceNormalization(NodeContext &n) {
  Value x = n.input(0);
  Shape dims = n.integerList("axes").value_or(Shape{0, 2, 3});
  for (int64_t &dim : dims)
    dim = n.normalizeAxis(dim, n.rank(x));
  if (n.failed())
    return n.output(0, {});
  Value centred = n.make<ir::SubOp>(x, spread(n, meanOver(n, x, dims), x));
  Value deviation = n.make<ir::SqrtOp>(meanOver(n, n.make<ir::MulOp>(centred, centred), dims));
  n.output(0, n.make<ir::DivOp>(centred, spread(n, add(n, deviation, 1e-9), x)));
}

/// Divided by the norm along one dimension; where that is zero, zero.
void lpNormalization(NodeContext &n) {
  Value x = n.input(0);
  int64_t axis = n.axis("axis", -1, n.rank(x)), p = n.integer("p", 2);
  if (p != 1 && p != 2)
    n.fail("p must be 1 or 2");
  if (n.failed())
    return n.output(0, {});
  Value terms = p == 1 ? n.make<ir::AbsOp>(x) : n.make<ir::MulOp>(x, x);
  Value norm = n.reduce(terms, ir::ReduceKind::Sum, {axis}, /*keepDims=*/true);
  Value zero = n.splatLike(norm, 0.0), empty = compare(n, ir::ComparePredicate::EQ, norm, zero);
  Value safe = n.make<ir::SelectOp>(empty, n.splatLike(norm, 1.0), norm);
  n.output(0, n.make<ir::DivOp>(x, spread(n, p == 1 ? safe : n.make<ir::SqrtOp>(safe), x)));
}

constexpr OpEntry kOps[] = {
    {"", "RMSNormalization", 23, rmsNormalization},
    {"", "GroupNormalization", 18, groupNormalization},
    {"", "InstanceNormalization", 6, instanceNormalization},
    {"", "BatchNormalization", 9, batchNormalization},
    {"", "MeanVarianceNormalization", 9, meanVarianceNormalization},
    {"", "LpNormalization", 1, lpNormalization},
};

} // namespace

llvm::ArrayRef<OpEntry> normalizationOps() {
  return kOps;
}

} // namespace moe::frontend
