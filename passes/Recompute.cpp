//===- Recompute.cpp - Activation checkpointing -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Passes.h"

namespace moe::ir {

#define GEN_PASS_DEF_RECOMPUTE
#include "passes/Passes.h.inc"

namespace {

struct RecomputePass : impl::RecomputeBase<RecomputePass> {
  using RecomputeBase::RecomputeBase;

  void runOnOperation() override {
    if (policy == "none")
      return;
    getOperation().emitError() << "--recompute " << policy << " is planned; only none is implemented";
    signalPassFailure();
  }
};

} // namespace
} // namespace moe::ir
