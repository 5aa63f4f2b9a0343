//===- DecomposeCoarse.cpp - Coarse operations become finer ones ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/RetypeTensors.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BindPlaces.h"
#include "passes/GroupDotOperands.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_DECOMPOSECOARSE
#include "passes/Passes.h.inc"

namespace {

struct DecomposeCoarsePass : impl::DecomposeCoarseBase<DecomposeCoarsePass> {
  void runOnOperation() override {
    // Decompositions look up tokens and rows of flattened tensors by number, in what a rank has of them. As operations
    // on the mesh they would be lookups in the whole tensor.
    dropLayouts(getOperation());
    // Decompositions may hold coarse operations again.
    SmallVector<DecomposableOpInterface> work;
    auto collect = [&](Operation *op) {
      if (auto coarse = dyn_cast<DecomposableOpInterface>(op); coarse && coarse.decomposesForCodegen())
        work.push_back(coarse);
    };
    getOperation().walk(collect);
    while (!work.empty()) {
      DecomposableOpInterface op = work.pop_back_val();
      OpBuilder builder(op);
      Operation *before = op->getPrevNode();
      FailureOr<SmallVector<Value>> values = op.decompose(builder);
      if (failed(values))
        return signalPassFailure();
      for (auto [result, value] : llvm::zip_equal(op->getResults(), *values))
        result.replaceAllUsesWith(value);
      Operation *made = before ? before->getNextNode() : &op->getBlock()->front();
      for (; made != op; made = made->getNextNode())
        collect(made);
      op->erase();
    }
    if (failed(bindPlaces(getOperation())))
      return signalPassFailure();
    groupDotOperands(getOperation());
  }
};

} // namespace
} // namespace moe::ir
