//===- AssignPrecision.cpp - The compute type of the recipe -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Passes.h"

namespace moe::ir {

#define GEN_PASS_DEF_ASSIGNPRECISION
#include "passes/Passes.h.inc"

namespace {

struct AssignPrecisionPass : impl::AssignPrecisionBase<AssignPrecisionPass> {
  using AssignPrecisionBase::AssignPrecisionBase;

  void runOnOperation() override {
    if (compute == "f32")
      return;
    getOperation().emitError() << "precision.compute: " << compute << " is planned; only f32 is implemented";
    signalPassFailure();
  }
};

} // namespace
} // namespace moe::ir
