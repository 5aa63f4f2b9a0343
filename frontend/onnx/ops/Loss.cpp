//===- Loss.cpp - Losses over classes -----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;
using moe::ir::ComparePredicate;

namespace moe::frontend {
namespace {

/// [N, C, d…] with the classes at the end: [N, d…, C].
Value classesLast(NodeContext &n, Value x) {
  Shape permutation = {0};
  for (int64_t i = 2; i < n.rank(x); ++i)
    permutation.push_back(i);
  permutation.push_back(1);
  return n.failed() ? Value() : n.transpose(x, permutation);
}

/// The loss of each row counts `weights` times; the mean divides by their sum.
Value combined(NodeContext &n, Value rows, Value weights) {
  const std::string reduction = n.text("reduction", "mean");
  if (reduction != "none" && reduction != "sum" && reduction != "mean")
    n.fail("the reduction '" + reduction + "' is unknown");
  if (n.failed() || reduction == "none")
    return rows;
  Shape all = firstDims(n.rank(rows));
  Value sum = n.reduce(rows, ir::ReduceKind::Sum, all, /*keepDims=*/false);
  if (reduction == "sum")
    return sum;
  return n.make<ir::DivOp>(sum, n.reduce(weights, ir::ReduceKind::Sum, all, /*keepDims=*/false));
}

/// The weight of each row: that of its class, or 1; 0 where the label is ignored.
Value rowWeights(NodeContext &n, Value labels, int64_t ignored, Type element) {
  Value skipped = compare(n, ComparePredicate::EQ, labels, n.splatLike(labels, static_cast<double>(ignored)));
  if (!n.hasInput(2))
    return n.failed() ? Value() : n.cast(n.make<ir::NotOp>(skipped), element);
  // A negative row of moe.gather is zero.
  return n.make<ir::GatherOp>(n.input(2), n.make<ir::SelectOp>(skipped, n.splatLike(labels, -1.0), labels));
}

/// -log p of the label's class, times the row's weight. `logs` [N, d…, C].
Value negativeLogs(NodeContext &n, Value logs, Value labels, Value weights) {
  if (n.failed())
    return {};
  Shape shape = n.shape(logs);
  const int64_t last = n.rank(logs) - 1;
  Value own = n.broadcast(labels, shape, firstDims(last));
  Value hit = compare(n, ComparePredicate::EQ, own, iota(n, shape, n.element(labels), last));
  Value picked = n.reduce(n.make<ir::SelectOp>(hit, logs, n.splatLike(logs, 0.0)), ir::ReduceKind::Sum, {last}, false);
  return n.make<ir::MulOp>(n.make<ir::NegOp>(picked), weights);
}

/// Class numbers are never negative, so an absent ignore_index is one that cannot occur.
int64_t ignoredLabel(NodeContext &n) {
  return n.integer("ignore_index", -1);
}

bool hasClasses(NodeContext &n, Value scores, Value labels) {
  if (!n.failed() && (n.rank(scores) < 2 || n.rank(labels) != n.rank(scores) - 1))
    n.fail("scores must be [N, C, …] and labels [N, …]");
  if (!n.failed() && !isIndex(n.element(labels)))
    n.fail("its labels are not integers of 32 or 64 bits");
  return !n.failed();
}

/// scores [N, C, d…], labels [N, d…]
void softmaxCrossEntropyLoss(NodeContext &n) {
  Value scores = n.input(0), labels = n.input(1);
  if (!hasClasses(n, scores, labels)) {
    n.output(1, {});
    return n.output(0, {});
  }
  Value rows = classesLast(n, scores), weights = rowWeights(n, labels, ignoredLabel(n), n.element(scores));
  if (!n.hasInput(2) && !n.wantsOutput(1)) {
    Operation *op = n.create<ir::SoftmaxCrossEntropyOp>(rows, labels, ignoredLabel(n));
    return n.output(0, op ? combined(n, op->getResult(0), weights) : Value());
  }
  Value logs = logSoftmaxOfRows(n, rows);
  n.output(0, combined(n, negativeLogs(n, logs, labels, weights), weights));
  Shape back = {0, n.failed() ? 1 : n.rank(logs) - 1};
  for (int64_t i = 1; !n.failed() && i + 1 < n.rank(logs); ++i)
    back.push_back(i);
  n.output(1, n.failed() ? Value() : n.transpose(logs, back));
}

void negativeLogLikelihoodLoss(NodeContext &n) {
  Value logs = n.input(0), labels = n.input(1);
  if (!hasClasses(n, logs, labels))
    return n.output(0, {});
  Value weights = rowWeights(n, labels, ignoredLabel(n), n.element(logs));
  n.output(0, combined(n, negativeLogs(n, classesLast(n, logs), labels, weights), weights));
}

constexpr OpEntry kOps[] = {
    {"", "SoftmaxCrossEntropyLoss", 12, softmaxCrossEntropyLoss},
    {"", "NegativeLogLikelihoodLoss", 12, negativeLogLikelihoodLoss},
};

} // namespace

llvm::ArrayRef<OpEntry> lossOps() {
  return kOps;
}

} // namespace moe::frontend
