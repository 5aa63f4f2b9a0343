//===- InsertEvaluation.cpp - Evaluation sums on the device -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"
#include "ir/TensorBuilder.h"
#include "passes/Passes.h"
#include "passes/TrainingAttributes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_INSERTEVALUATION
#include "passes/Passes.h.inc"

namespace {

/// Drops the results at `drop` of a function and of its terminator.
void eraseResults(func::FuncOp function, const BitVector &drop) {
  auto terminator = cast<func::ReturnOp>(function.getBody().front().getTerminator());
  for (int i = static_cast<int>(drop.size()) - 1; i >= 0; --i)
    if (drop.test(i))
      terminator->eraseOperand(i);
  (void)function.eraseResults(drop);
}

struct InsertEvaluationPass : impl::InsertEvaluationBase<InsertEvaluationPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<TrainingAttributes> training = TrainingAttributes::read(module);
    if (failed(training))
      return signalPassFailure();
    if (auto eval = module.lookupSymbol<func::FuncOp>("eval"))
      if (failed(accumulate(module, eval, training->loss)))
        return signalPassFailure();
    // What only training reads is no output of the user's model.
    if (auto forward = module.lookupSymbol<func::FuncOp>("forward")) {
      BitVector drop(forward.getNumResults());
      for (StringRef name : {"loss_weight", "inner_loss_sum", "moe_metrics", "moe_dropped"})
        if (std::optional<unsigned> index = findResult(forward, name))
          drop.set(*index);
      eraseResults(forward, drop);
    }
  }

  LogicalResult accumulate(ModuleOp module, func::FuncOp eval, StringRef lossName) {
    auto terminator = cast<func::ReturnOp>(eval.getBody().front().getTerminator());
    std::optional<unsigned> lossIndex = findResult(eval, lossName);
    if (!lossIndex)
      return eval.emitError() << "the model has no output '" << lossName << "'; outputs: " << resultNames(eval);
    OpBuilder builder(terminator);
    StateWriter states(module, builder);
    auto addTo = [&](StringRef name, Value value) {
      Location loc = NameLoc::get(builder.getStringAttr(name));
      TensorBuilder b(builder, loc);
      states.declare(name, typeOf(value), StateKind::Metric, 0.0);
      states.write(builder, loc, name, b.add(states.read(builder, loc, name), value));
    };
    TensorBuilder b(builder, eval.getLoc());
    // The host reads one number: that of all ranks.
    MeshAttr mesh = MeshAttr::of(module);
    auto output = [&](unsigned index) {
      FailureOr<Value> whole = everywhere(builder, terminator.getOperand(index), mesh, getArgument());
      return succeeded(whole) ? *whole : terminator.getOperand(index);
    };
    Value loss = b.reshape(output(*lossIndex), {});
    std::optional<unsigned> weightIndex = findResult(eval, "loss_weight");
    Value weight = weightIndex ? b.cast(output(*weightIndex), typeOf(loss).getElementType()) : b.splatLike(loss, 1.0);
    addTo("metric.eval_loss_sum", b.mul(loss, weight));
    addTo("metric.eval_ntokens", weight);
    addTo("metric.eval_batches", b.splatLike(loss, 1.0));
    if (std::optional<unsigned> inner = findResult(eval, "inner_loss_sum"))
      addTo("metric.eval_inner_loss_sum", b.reshape(output(*inner), {}));
    if (std::optional<unsigned> aux = findResult(eval, "aux_loss"))
      addTo("metric.eval_moe_gate_loss_sum", b.mul(b.reshape(output(*aux), {}), weight));
    if (std::optional<unsigned> metrics = findResult(eval, "moe_metrics"))
      addTo("metric.eval_moe_metrics", output(*metrics));
    if (std::optional<unsigned> dropped = findResult(eval, "moe_dropped"))
      addTo("metric.eval_dropped", b.cast(output(*dropped), builder.getI64Type()));
    eraseResults(eval, BitVector(eval.getNumResults(), true));
    return success();
  }
};

} // namespace
} // namespace moe::ir
