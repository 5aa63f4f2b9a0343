//===- RecomposeExperts.cpp - Finds layers of experts in exported graphs ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "passes/Passes.h"
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
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (function.isExternal())
        continue;
      recomposeGatheredExperts(function);
      recomposeLoopedExperts(function);
      recomposeCapacityExperts(function);
      eraseUnused(function.getBody().front());
    }
  }
};

} // namespace
} // namespace moe::ir
