//===- VerifyPhase.cpp - What holds at the end of each phase ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BufferTable.h"
#include "passes/Passes.h"
#include "passes/Pipeline.h"
#include "passes/TrainingAttributes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_VERIFYPHASE
#include "passes/Passes.h.inc"

namespace {

/// Collects violations, so that all of them are reported.
class PhaseVerifier {
public:
  PhaseVerifier(ModuleOp module, Phase phase) : module(module), phase(phase) {}

  bool verify() {
    require(Phase::Import, [&](Operation *op) { return checkProgram(op); });
    require(Phase::Shard, [&](Operation *op) { return checkLayouts(op); });
    require(Phase::Fuse, [&](Operation *op) { return checkFused(op); });
    require(Phase::Bufferize, [&](Operation *op) { return checkSlots(op); });
    require(Phase::Schedule, [&](Operation *op) { return checkStarted(op); });
    if (phase >= Phase::Differentiate && !module.lookupSymbol<func::FuncOp>("micro_step"))
      complain(module, "has no program @micro_step");
    if (phase >= Phase::Update && !module.lookupSymbol<func::FuncOp>("update"))
      complain(module, "has no program @update");
    if (phase >= Phase::Place)
      checkPlaced();
    return ok;
  }

private:
  template <typename Check> void require(Phase since, Check check) {
    if (phase >= since)
      module.walk([&](Operation *op) { check(op); });
  }

  void complain(Operation *op, const Twine &what) {
    op->emitError() << "after phase " << phaseName(phase) << ": '" << op->getName().getStringRef() << "' " << what;
    ok = false;
  }

  void checkProgram(Operation *op) {
    auto function = dyn_cast<func::FuncOp>(op);
    if (!function)
      return;
    if (!function->getAttrOfType<StringAttr>(kProgramAttr) || !llvm::hasSingleElement(function.getBody()))
      return complain(op, "is no program of one block with the attribute moe.program");
    for (Operation &inner : function.getBody().front().without_terminator())
      if (!isa<MoeOpInterface>(inner))
        complain(&inner, "is no operation of the moe dialect");
  }

  /// Types say how tensors lie on the mesh until the programs are those of one rank.
  void checkLayouts(Operation *op) {
    const bool onMesh = phase < Phase::Fuse;
    for (Value result : op->getResults())
      if (auto type = dyn_cast<RankedTensorType>(result.getType());
          type && isa_and_present<LayoutAttr>(type.getEncoding()) != onMesh)
        complain(op, onMesh ? "makes a tensor without a layout" : "makes a tensor that has a layout still");
  }

  void checkFused(Operation *op) {
    if (op->getParentOfType<FusedOp>())
      return;
    auto coarse = dyn_cast<DecomposableOpInterface>(op);
    if (coarse && coarse.decomposesForCodegen())
      complain(op, "should have been decomposed");
    if (isa<ElementwiseOpInterface>(op))
      complain(op, "should be inside a fused region");
  }

  void checkSlots(Operation *op) {
    if (!isa_and_present<func::FuncOp>(op->getParentOp()) || op->getNumResults() == 0)
      return;
    auto slots = op->getAttrOfType<DenseI64ArrayAttr>(kSlotsAttr);
    if (!slots || slots.size() != 2 * static_cast<int64_t>(op->getNumResults()))
      complain(op, "has no slots for its results");
  }

  void checkStarted(Operation *op) {
    auto collective = dyn_cast<CollectiveOpInterface>(op);
    if (collective && collective.communicates() && !(op->hasOneUse() && isa<DoneOp>(*op->getUsers().begin())))
      complain(op, "has a result that something but its moe.done reads, or no moe.done");
  }

  void checkPlaced() {
    FailureOr<BufferTable> table = BufferTable::read(module);
    if (failed(table))
      return void(ok = false);
    for (auto function : module.getOps<func::FuncOp>()) {
      FailureOr<llvm::DenseMap<int64_t, Lifetime>> live = lifetimes(function, *table);
      if (failed(live))
        return void(ok = false);
      for (auto [buffer, lifetime] : *live)
        if (!table->buffers[buffer].offset)
          complain(function, "uses buffer '" + table->buffers[buffer].name + "', which has no offset");
    }
  }

  ModuleOp module;
  Phase phase;
  bool ok = true;
};

struct VerifyPhasePass : impl::VerifyPhaseBase<VerifyPhasePass> {
  using VerifyPhaseBase::VerifyPhaseBase;

  void runOnOperation() override {
    std::optional<Phase> known = parsePhase(phase);
    if (!known) {
      getOperation().emitError() << "there is no phase '" << phase << "'; there are " << phaseList();
      return signalPassFailure();
    }
    if (!PhaseVerifier(getOperation(), *known).verify())
      signalPassFailure();
  }
};

} // namespace
} // namespace moe::ir
