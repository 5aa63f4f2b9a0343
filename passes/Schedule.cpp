//===- Schedule.cpp - Total order and lanes ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Fuse.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_SCHEDULE
#include "passes/Passes.h.inc"

namespace {

/// One lane for computation; communicators get theirs with the collectives. Bufferize has fixed the order (slots are
/// shared along it), so this pass states it.
struct SchedulePass : impl::ScheduleBase<SchedulePass> {
  void runOnOperation() override {
    Builder b(&getContext());
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      for (Operation &op : function.getBody().front().without_terminator())
        if (cast<MoeOpInterface>(op).getBufferUse().kind == BufferUse::Kind::Compute)
          op.setAttr("moe.lane", b.getI64IntegerAttr(0));
    }
  }
};

} // namespace
} // namespace moe::ir
