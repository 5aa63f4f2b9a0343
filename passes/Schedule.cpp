//===- Schedule.cpp - Total order and lanes ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BufferTable.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_SCHEDULE
#include "passes/Passes.h.inc"

namespace {

/// Bufferize has fixed the order (slots are shared along it), so this pass states it.
struct SchedulePass : impl::ScheduleBase<SchedulePass> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      for (Operation &op : llvm::make_early_inc_range(function.getBody().front().without_terminator())) {
        if (cast<MoeOpInterface>(op).getBufferUse().kind != BufferUse::Kind::Compute)
          continue;
        auto collective = dyn_cast<CollectiveOpInterface>(op);
        const bool communicates = collective && collective.communicates();
        op.setAttr(kLaneAttr,
                   Builder(&getContext()).getI64IntegerAttr(communicates ? kCommunicationLane : kComputeLane));
        if (communicates)
          appendDone(&op);
      }
  }

  /// The other half of the collective `start`, right after it.
  void appendDone(Operation *start) {
    OpBuilder b(&getContext());
    b.setInsertionPointAfter(start);
    Value started = start->getResult(0);
    auto done = DoneOp::create(b, start->getLoc(), started.getType(), started, start->getOperands());
    for (StringRef name : {kSlotsAttr, kScratchAttr})
      if (Attribute memory = start->getAttr(name))
        done->setAttr(name, memory);
    started.replaceAllUsesExcept(done.getResult(), done);
  }
};

} // namespace
} // namespace moe::ir
