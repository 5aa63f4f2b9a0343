//===- Select.cpp - Kernel or library call, and its scratch -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/Product.h"
#include "codegen/plan/Work.h"
#include "codegen/targets/Targets.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BufferTable.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_SELECT
#include "passes/Passes.h.inc"

namespace {

struct SelectPass : impl::SelectBase<SelectPass> {
  using SelectBase::SelectBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    std::string error;
    std::unique_ptr<codegen::KernelTarget> machine = codegen::createTarget(target, threads, error);
    if (!machine) {
      module.emitError() << error;
      return signalPassFailure();
    }
    Builder b(&getContext());
    module->setAttr("moe.target", b.getStringAttr(target));
    module->setAttr("moe.threads", b.getI64IntegerAttr(machine->threads()));
    bool ok = true;
    for (auto function : module.getOps<func::FuncOp>())
      for (Operation &op : function.getBody().front().without_terminator())
        ok &= succeeded(select(&op, *machine));
    if (!ok)
      signalPassFailure();
  }

  static LogicalResult select(Operation *op, const codegen::KernelTarget &machine) {
    Builder b(op->getContext());
    if (cast<MoeOpInterface>(op).getBufferUse().kind != BufferUse::Kind::Compute)
      return success();
    uint64_t scratch = 0;
    if (auto fused = dyn_cast<FusedOp>(op); fused && !codegen::isProduct(fused)) {
      FailureOr<codegen::FusedPlan> plan = machine.plan(fused);
      if (failed(plan))
        return failure();
      scratch = plan->scratchBytes;
      SmallVector<int64_t> pairs;
      for (const codegen::InPlacePair &pair : plan->inPlace)
        pairs.append({pair.output, pair.input});
      if (!pairs.empty())
        op->setAttr(kInPlaceAttr, b.getDenseI64ArrayAttr(pairs));
    } else {
      plan::Step step;
      if (failed(codegen::fillLibraryWork(op, machine, step)))
        return failure();
      scratch = codegen::scratchBytes(step);
    }
    if (scratch > 0)
      op->setAttr(kScratchBytesAttr, b.getI64IntegerAttr(static_cast<int64_t>(scratch)));
    return success();
  }
};

} // namespace
} // namespace moe::ir
