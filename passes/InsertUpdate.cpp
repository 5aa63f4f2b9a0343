//===- InsertUpdate.cpp - Norm, clipping, learning rate and optimizer as a program ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"
#include "passes/Buckets.h"
#include "passes/Optimizers.h"
#include "passes/Passes.h"
#include "passes/TrainingAttributes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_INSERTUPDATE
#include "passes/Passes.h.inc"

namespace {

/// Guards the division by the gradient norm when clipping, as PyTorch and fairseq do.
constexpr double kClipEpsilon = 1e-6;

struct InsertUpdatePass : impl::InsertUpdateBase<InsertUpdatePass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<TrainingAttributes> training = TrainingAttributes::read(module);
    if (failed(training))
      return signalPassFailure();
    std::unique_ptr<Optimizer> optimizer = makeOptimizer(training->optimizer);
    if (!optimizer) {
      module.emitError() << "unknown optimizer '" << training->optimizer.name
                         << "'; there are sgd, adam, adamw, fairseq_adam";
      return signalPassFailure();
    }
    auto step = module.lookupSymbol<func::FuncOp>("micro_step");
    if (!step) {
      module.emitError("there is no program @micro_step to update after");
      return signalPassFailure();
    }
    std::vector<Bucket> buckets = assignBuckets(module, optimizer->slots());
    if (failed(makeUpdate(module, step, *training, *optimizer, buckets)))
      signalPassFailure();
  }

  LogicalResult makeUpdate(ModuleOp module, func::FuncOp step, const TrainingAttributes &training, Optimizer &optimizer,
                           ArrayRef<Bucket> buckets) {
    OpBuilder moduleBuilder(module.getContext());
    moduleBuilder.setInsertionPointAfter(step);
    Location loc = NameLoc::get(moduleBuilder.getStringAttr("update"));
    auto update = func::FuncOp::create(moduleBuilder, loc, "update", moduleBuilder.getFunctionType({}, {}));
    update->setAttr(kProgramAttr, moduleBuilder.getStringAttr("update"));
    OpBuilder builder = OpBuilder::atBlockBegin(update.addEntryBlock());
    TensorBuilder b(builder, loc);
    StateWriter states(module, builder);
    RankedTensorType scalar = module.lookupSymbol<StateOp>("sum.loss").getTensorType();

    auto named = [&](StringRef name) { return NameLoc::get(builder.getStringAttr(name)); };
    auto metric = [&](StringRef name, Value value) {
      std::string state = ("metric." + name).str();
      states.declare(state, typeOf(value), StateKind::Metric);
      states.write(builder, named(state), state, value);
    };

    // num_updates as a float: exact up to 2^24 updates.
    Value progress = states.read(builder, named(kProgressState), kProgressState);
    Value first = b.make<SliceOp>(progress, ArrayRef<int64_t>{0}, ArrayRef<int64_t>{1}, ArrayRef<int64_t>{1});
    Value updates = b.cast(b.reshape(first, {}), scalar.getElementType());

    Value weight = states.read(builder, named("sum.weight"), "sum.weight");
    Value multiplier = b.div(b.splat(scalar, 1.0), weight);
    b.loc = named("gnorm");
    Value norm = b.mul(b.sqrt(squaredNorm(b, states, buckets, scalar)), multiplier);
    b.loc = loc;
    Value factor = multiplier;
    if (training.clipNorm > 0) {
      Value clip = b.min(b.splat(scalar, 1.0), b.div(b.splat(scalar, training.clipNorm), b.add(norm, kClipEpsilon)));
      factor = b.mul(multiplier, clip);
      metric("clip_factor", clip);
    }
    Value apply = b.make<IsFiniteOp>(norm);
    FailureOr<Value> lr = learningRate(b, training, updates);
    if (failed(lr))
      return failure();

    optimizer.prepare(b, states, *lr, apply);
    for (const Bucket &bucket : buckets) {
      b.loc = named(bucket.name);
      optimizer.update(b, states, bucket, factor, apply);
      if (training.accumulate > 1)
        states.write(builder, b.loc, bucket.gradient, b.splat(bucket.type, 0.0));
    }
    b.loc = loc;

    metric("loss", b.div(states.read(builder, named("sum.loss"), "sum.loss"), weight));
    metric("gnorm", norm);
    metric("lr", *lr);
    metric("ntokens", weight);
    metric("gradient_multiplier", multiplier);
    metric("applied", b.cast(apply, scalar.getElementType()));
    if (module.lookupSymbol("sum.inner_loss"))
      metric("inner_loss", b.div(states.read(builder, named("sum.inner_loss"), "sum.inner_loss"), weight));
    if (module.lookupSymbol("sum.aux_loss"))
      metric("moe_gate_loss", b.div(states.read(builder, named("sum.aux_loss"), "sum.aux_loss"), weight));
    if (module.lookupSymbol("sum.moe_metrics"))
      metric("moe_metrics", b.mul(states.read(builder, named("sum.moe_metrics"), "sum.moe_metrics"),
                                  1.0 / static_cast<double>(training.accumulate)));
    for (StringRef sum : {"sum.loss", "sum.weight", "sum.inner_loss", "sum.aux_loss", "sum.moe_metrics"})
      if (auto state = module.lookupSymbol<StateOp>(sum))
        states.write(builder, named(sum), sum, b.splat(state.getTensorType(), 0.0));

    // (num_updates, micro) becomes (num_updates + apply, 0).
    Value advanced = b.add(b.reshape(first, {}), b.cast(apply, builder.getI64Type()));
    SmallVector<Value> parts{b.reshape(advanced, {1}), b.splat(withShape(typeOf(progress), {1}), 0.0)};
    states.write(builder, named(kProgressState), kProgressState, b.make<ConcatOp>(ValueRange(parts), 0));
    func::ReturnOp::create(builder, loc);
    return success();
  }

  Value squaredNorm(TensorBuilder &b, StateWriter &states, ArrayRef<Bucket> buckets, RankedTensorType scalar) {
    SmallVector<Value> parts;
    for (const Bucket &bucket : buckets) {
      Value gradient = states.read(b.builder, b.loc, bucket.gradient);
      parts.push_back(b.sumAll(b.mul(gradient, gradient)));
    }
    return parts.empty() ? b.splat(scalar, 0.0) : b.make<AddNOp>(ValueRange(parts));
  }
};

} // namespace
} // namespace moe::ir
