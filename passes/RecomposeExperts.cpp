//===- RecomposeExperts.cpp - Finds layers of experts in exported graphs ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "passes/Passes.h"
#include "passes/recompose/ExpertRows.h"
#include "passes/recompose/Experts.h"

#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_RECOMPOSEEXPERTS
#include "passes/Passes.h.inc"

void eraseUnused(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

namespace {

struct RecomposeExpertsPass : impl::RecomposeExpertsBase<RecomposeExpertsPass> {
  using RecomposeExpertsBase::RecomposeExpertsBase;

  void runOnOperation() override {
    if (groups < 1 || parts < 1) {
      getOperation().emitError("recompose-experts needs at least one group of tokens and one part of the experts");
      return signalPassFailure();
    }
    const RowTables tables{groups, parts};
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (function.isExternal())
        continue;
      recomposeGatheredExperts(function, tables);
      recomposeLoopedExperts(function, tables);
      recomposeCapacityExperts(function);
      eraseUnused(function.getBody().front());
    }
  }
};

} // namespace
} // namespace moe::ir
