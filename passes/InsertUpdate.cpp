//===- InsertUpdate.cpp - Norm, clipping, learning rate and optimizer as a program ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"
#include "ir/TensorBuilder.h"
#include "passes/Buckets.h"
#include "passes/Optimizers.h"
#include "passes/Passes.h"
#include "passes/TrainingAttributes.h"
#include "llvm/ADT/MapVector.h"

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
    MeshAttr mesh = MeshAttr::of(module);
    RankedTensorType scalar = wholeOrSplit(module.lookupSymbol<StateOp>("sum.loss").getTensorType());
    /// The state's value, the sum over all ranks where each has its own.
    auto total = [&](StringRef name) {
      Value mine = states.read(builder, NameLoc::get(builder.getStringAttr(name)), name);
      FailureOr<Value> all = everywhere(builder, mine, mesh, getArgument());
      return succeeded(all) ? *all : mine;
    };

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
    SmallVector<Value> gradients;
    for (const Bucket &bucket : buckets) {
      FailureOr<Value> gradient = lie(builder, states.read(builder, b.loc, bucket.gradient), bucket.work, mesh);
      if (failed(gradient))
        return failure();
      gradients.push_back(*gradient);
    }
    FailureOr<Value> squares = squaredNorm(b, gradients, scalar, mesh);
    if (failed(squares))
      return failure();
    Value norm = b.mul(b.sqrt(*squares), multiplier);
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
    for (auto [bucket, gradient] : llvm::zip_equal(buckets, gradients)) {
      b.loc = named(bucket.name);
      FailureOr<Value> old = lie(builder, states.read(builder, b.loc, bucket.name), bucket.work, mesh);
      if (failed(old))
        return failure();
      Value updated = optimizer.update(b, states, bucket, *old, gradient, factor, apply);
      FailureOr<Value> parameters = lie(builder, updated, bucket.type, mesh);
      if (failed(parameters))
        return failure();
      states.write(builder, b.loc, bucket.name, *parameters);
      if (training.accumulate > 1)
        states.write(builder, b.loc, bucket.gradient, b.splat(gradientType(bucket.type, mesh), 0.0));
    }
    b.loc = loc;

    metric("loss", b.div(total("sum.loss"), weight));
    metric("gnorm", norm);
    metric("lr", *lr);
    metric("ntokens", weight);
    metric("gradient_multiplier", multiplier);
    metric("applied", b.cast(apply, scalar.getElementType()));
    if (module.lookupSymbol("sum.inner_loss"))
      metric("inner_loss", b.div(total("sum.inner_loss"), weight));
    if (module.lookupSymbol("sum.aux_loss"))
      metric("moe_gate_loss", b.div(total("sum.aux_loss"), weight));
    if (module.lookupSymbol("sum.moe_metrics"))
      metric("moe_metrics", b.mul(total("sum.moe_metrics"), 1.0 / static_cast<double>(training.accumulate)));
    if (module.lookupSymbol("sum.dropped"))
      metric("dropped", b.cast(total("sum.dropped"), builder.getI64Type()));
    for (StringRef sum : {"sum.loss", "sum.weight", "sum.inner_loss", "sum.aux_loss", "sum.moe_metrics", "sum.dropped"})
      if (auto state = module.lookupSymbol<StateOp>(sum))
        states.write(builder, named(sum), sum, b.splat(state.getTensorType(), 0.0));

    // (num_updates, micro) becomes (num_updates + apply, 0).
    Value advanced = b.add(b.reshape(first, {}), b.cast(apply, builder.getI64Type()));
    SmallVector<Value> parts{b.reshape(advanced, {1}), b.splat(withShape(typeOf(progress), {1}), 0.0)};
    states.write(builder, named(kProgressState), kProgressState, b.make<ConcatOp>(ValueRange(parts), 0));
    func::ReturnOp::create(builder, loc);
    return success();
  }

  /// `value` in the layout of `type`.
  FailureOr<Value> lie(OpBuilder &builder, Value value, RankedTensorType type, MeshAttr mesh) {
    auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
    return layout && mesh ? reshard(builder, value, layout, mesh, getArgument()) : FailureOr<Value>(value);
  }

  /// Every element of every parameter counts once, wherever it lies: sums of the same layout are added up before they
  /// are summed over ranks.
  FailureOr<Value> squaredNorm(TensorBuilder &b, ArrayRef<Value> gradients, RankedTensorType scalar, MeshAttr mesh) {
    llvm::MapVector<Type, SmallVector<Value>> parts;
    for (Value gradient : gradients) {
      Value square = b.sumAll(b.mul(gradient, gradient));
      parts[square.getType()].push_back(square);
    }
    SmallVector<Value> sums;
    for (auto &[type, squares] : parts) {
      FailureOr<Value> sum = everywhere(b.builder, b.make<AddNOp>(ValueRange(squares)), mesh, getArgument());
      if (failed(sum))
        return failure();
      sums.push_back(*sum);
    }
    if (sums.empty())
      return b.splat(scalar, 0.0);
    return sums.size() == 1 ? sums.front() : b.make<AddNOp>(ValueRange(sums));
  }
};

} // namespace
} // namespace moe::ir
