//===- Network.cpp ------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Softmax over one dimension; before opset 13 over all dimensions from `axis` on, as if flattened.
Value softmaxRows(NodeContext &n, bool logarithm) {
  Value x = n.input(0);
  Shape shape = n.shape(x);
  const auto rank = static_cast<int64_t>(shape.size());
  int64_t axis = n.axis("axis", n.opset < 13 ? 1 : -1, rank);
  if (n.failed())
    return {};
  Value rows = x;
  if (n.opset < 13) {
    Shape flat(shape.begin(), shape.begin() + axis);
    int64_t count = 1;
    for (int64_t i = axis; i < rank; ++i)
      count *= shape[i];
    flat.push_back(count);
    rows = n.reshape(x, flat);
  } else {
    rows = swapWithLast(n, x, axis);
  }
  Value result;
  if (!logarithm) {
    result = n.make<ir::SoftmaxOp>(rows);
  } else if (!n.failed()) {
    // x - max - log sum exp(x - max)
    Shape to = n.shape(rows);
    const auto last = static_cast<int64_t>(to.size()) - 1;
    Value shifted =
        n.make<ir::SubOp>(rows, n.broadcastTo(n.reduce(rows, ir::ReduceKind::Max, {last}, /*keepDims=*/true), to));
    Value sum = n.reduce(n.make<ir::ExpOp>(shifted), ir::ReduceKind::Sum, {last}, /*keepDims=*/true);
    result = n.make<ir::SubOp>(shifted, n.broadcastTo(n.make<ir::LogOp>(sum), to));
  }
  return n.opset < 13 ? n.reshape(result, shape) : swapWithLast(n, result, axis);
}

void softmax(NodeContext &n) {
  n.output(0, softmaxRows(n, false));
}
void logSoftmax(NodeContext &n) {
  n.output(0, softmaxRows(n, true));
}

/// The dimensions from `axis` on are normalised together.
void layerNormalization(NodeContext &n) {
  Value x = n.input(0), scale = n.input(1);
  Shape shape = n.shape(x);
  int64_t axis = n.axis("axis", -1, n.rank(x));
  if (n.integer("stash_type", onnx::TensorProto::FLOAT) != onnx::TensorProto::FLOAT)
    n.fail("only stash_type FLOAT is supported");
  if (n.wantsOutput(1) || n.wantsOutput(2))
    n.fail("the optional outputs mean and inverse deviation are not supported");
  if (n.failed())
    return n.output(0, {});
  Shape tail(shape.begin() + axis, shape.end()), flat(shape.begin(), shape.begin() + axis);
  int64_t width = 1;
  for (int64_t extent : tail)
    width *= extent;
  flat.push_back(width);
  Value bias = n.hasInput(2) ? n.broadcastTo(n.input(2), tail) : n.splat(n.type(tail, n.element(x)), 0.0);
  scale = n.broadcastTo(scale, tail);
  Operation *op = n.create<ir::LayerNormOp>(n.reshape(x, flat), n.reshape(scale, {width}), n.reshape(bias, {width}),
                                            n.builder.getF64FloatAttr(n.real("epsilon", 1e-5)));
  n.output(0, op ? n.reshape(op->getResult(0), shape) : Value());
}

/// scores [N, C, d…], labels [N, d…]; per-row losses, then the reduction over rows whose label is counted.
void softmaxCrossEntropyLoss(NodeContext &n) {
  Value scores = n.input(0), labels = n.input(1);
  std::string reduction = n.text("reduction", "mean");
  if (n.hasInput(2))
    n.fail("class weights are not supported");
  if (n.wantsOutput(1))
    n.fail("the optional output of log-probabilities is not supported");
  if (!n.failed() && n.rank(scores) < 2)
    n.fail("scores need at least two dimensions");
  if (n.failed())
    return n.output(0, {});
  // Classes go last.
  Shape permutation = {0};
  for (int64_t i = 2; i < n.rank(scores); ++i)
    permutation.push_back(i);
  permutation.push_back(1);
  // Class numbers are never negative, so an absent ignore_index is one that cannot occur.
  const int64_t ignored = n.integer("ignore_index", -1);
  Operation *op = n.create<ir::SoftmaxCrossEntropyOp>(n.transpose(scores, permutation), labels, ignored);
  if (!op)
    return n.output(0, {});
  Value rows = op->getResult(0);
  if (reduction == "none")
    return n.output(0, rows);
  Shape all = llvm::to_vector(llvm::seq<int64_t>(0, n.rank(rows)));
  Value sum = n.reduce(rows, ir::ReduceKind::Sum, all, /*keepDims=*/false);
  if (reduction == "sum")
    return n.output(0, sum);
  if (reduction != "mean")
    n.fail("the reduction '" + reduction + "' is unknown");
  Value counted =
      n.make<ir::CompareOp>(ir::ComparePredicate::NE, labels, n.splatLike(labels, static_cast<double>(ignored)));
  Value count = n.reduce(n.cast(counted, n.element(sum)), ir::ReduceKind::Sum, all, /*keepDims=*/false);
  n.output(0, n.make<ir::DivOp>(sum, count));
}

constexpr OpEntry kOps[] = {
    {"", "Softmax", 1, softmax},
    {"", "LogSoftmax", 1, logSoftmax},
    {"", "LayerNormalization", 17, layerNormalization},
    {"", "SoftmaxCrossEntropyLoss", 12, softmaxCrossEntropyLoss},
};

} // namespace

llvm::ArrayRef<OpEntry> networkOps() {
  return kOps;
}

} // namespace moe::frontend
