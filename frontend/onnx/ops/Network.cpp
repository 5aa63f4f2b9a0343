//===- Network.cpp ------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {

Value logSoftmaxOfRows(NodeContext &n, Value rows) {
  if (n.failed())
    return {};
  // x - max - log sum exp(x - max); the maximum shifts both terms, so that no gradient passes through it.
  Shape to = n.shape(rows);
  const int64_t last = n.rank(rows) - 1;
  Value largest = detached(n, n.reduce(rows, ir::ReduceKind::Max, {last}, /*keepDims=*/true));
  Value shifted = n.make<ir::SubOp>(rows, n.failed() ? Value() : n.broadcastTo(largest, to));
  Value sum = n.reduce(n.make<ir::ExpOp>(shifted), ir::ReduceKind::Sum, {last}, /*keepDims=*/true);
  Value logarithm = n.make<ir::LogOp>(sum);
  return n.make<ir::SubOp>(shifted, n.failed() ? Value() : n.broadcastTo(logarithm, to));
}

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
  } else {
    result = logSoftmaxOfRows(n, rows);
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
  if (!op || !(n.wantsOutput(1) || n.wantsOutput(2)))
    return;
  // Computed once more, since no gradient passes the statistics of moe.layer_norm.
  Value rows = n.reshape(x, flat);
  const int64_t last = n.rank(rows) - 1;
  auto mean = [&](Value value) {
    return multiply(n, n.reduce(value, ir::ReduceKind::Sum, {last}, /*keepDims=*/true),
                    1.0 / static_cast<double>(width));
  };
  Value centre = mean(rows);
  Value centred = n.make<ir::SubOp>(rows, n.failed() ? Value() : n.broadcastTo(centre, flat));
  Value deviation = n.make<ir::RsqrtOp>(add(n, mean(n.make<ir::MulOp>(centred, centred)), n.real("epsilon", 1e-5)));
  Shape kept(shape.begin(), shape.begin() + axis);
  kept.resize(shape.size(), 1);
  n.output(1, n.reshape(centre, kept));
  n.output(2, n.reshape(deviation, kept));
}

constexpr OpEntry kOps[] = {
    {"", "Softmax", 1, softmax},
    {"", "LogSoftmax", 1, logSoftmax},
    {"", "LayerNormalization", 1, layerNormalization}, // before opset 17 ONNX Runtime's own, of the same meaning
};

} // namespace

llvm::ArrayRef<OpEntry> networkOps() {
  return kOps;
}

} // namespace moe::frontend
