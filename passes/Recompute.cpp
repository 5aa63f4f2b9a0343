//===- Recompute.cpp - Activation checkpointing -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/CheapValues.h"
#include "passes/Fuse.h"
#include "passes/Layers.h"
#include "passes/Passes.h"
#include "passes/Rematerialize.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_RECOMPUTE
#include "passes/Passes.h.inc"

namespace {

struct RecomputePass : impl::RecomputeBase<RecomputePass> {
  using RecomputeBase::RecomputeBase;

  void runOnOperation() override {
    if (policy != "none" && policy != "full") {
      getOperation().emitError() << "--recompute " << policy << " does not exist; there are none and full";
      return signalPassFailure();
    }
    auto step = getOperation().lookupSymbol<func::FuncOp>("micro_step");
    if (!step) {
      if (policy == "none")
        return;
      getOperation().emitError("there is no program @micro_step whose values could be computed again");
      return signalPassFailure();
    }
    Block &block = step.getBody().front();
    llvm::DenseSet<Operation *> forward = forwardPart(block);
    uint64_t before = bytesKept(block, forward);
    Rematerialized done;
    if (policy == "full")
      done = keepBoundaries(block, forward);
    Rematerialized cheap = dropCheap(block);
    // A state that copies read must not be overwritten before them.
    if (done.operations + cheap.operations > 0 && failed(sortByDependencies(block)))
      return signalPassFailure();
    done.operations += cheap.operations;
    done.flops += cheap.flops;
    if (policy == "full")
      report(done, before, bytesKept(block, forwardPart(block)));
  }

  Rematerialized keepBoundaries(Block &block, const llvm::DenseSet<Operation *> &forward) {
    Layers layers(block, forward);
    if (layers.names().empty())
      getOperation().emitWarning()
          << "--recompute " << policy
          << " changes nothing: no layers were found, as names of parameters with the number of a "
             "layer, decoder.layers.3.fc1.weight, tell them; export the model with its names";
    return rematerialize(block, forward, layers.boundaries());
  }

  /// Of the values that are kept, those that cost next to nothing to compute from the others.
  Rematerialized dropCheap(Block &block) {
    llvm::DenseSet<Operation *> forward = forwardPart(block);
    CheapOptions options;
    options.minBytes = static_cast<uint64_t>(cheapBytes);
    options.minSteps = static_cast<unsigned>(cheapSteps);
    options.minFlops = static_cast<unsigned>(cheapFlops);
    llvm::DenseSet<Value> cheap = cheapValues(block, forward, options), keep;
    if (cheap.empty())
      return {};
    for (Operation *op : forward)
      for (Value result : op->getResults())
        if (!cheap.contains(viewedValue(result)))
          keep.insert(result);
    return rematerialize(block, std::move(forward), std::move(keep));
  }

  void report(const Rematerialized &done, uint64_t before, uint64_t after) {
    Builder b(&getContext());
    getOperation()->setAttr(
        kRecomputeAttr,
        b.getDictionaryAttr({b.getNamedAttr("policy", b.getStringAttr(policy)),
                             b.getNamedAttr("operations", b.getI64IntegerAttr(done.operations)),
                             b.getNamedAttr("flops", b.getF64FloatAttr(done.flops)),
                             b.getNamedAttr("kept_bytes", b.getI64IntegerAttr(static_cast<int64_t>(after))),
                             b.getNamedAttr("kept_bytes_without", b.getI64IntegerAttr(static_cast<int64_t>(before)))}));
  }
};

} // namespace
} // namespace moe::ir
