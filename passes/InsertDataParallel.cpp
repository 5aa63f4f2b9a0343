//===- InsertDataParallel.cpp - Each rank takes its part of the batch ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"
#include "passes/LayoutSweep.h"
#include "passes/Passes.h"
#include "passes/TrainingAttributes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_INSERTDATAPARALLEL
#include "passes/Passes.h.inc"

namespace {

struct InsertDataParallelPass : impl::InsertDataParallelBase<InsertDataParallelPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    MeshAttr mesh = MeshAttr::of(module);
    if (!mesh) {
      module.emitError("insert-data-parallel needs a mesh; run shard first");
      return signalPassFailure();
    }
    if (mesh.ranks() == 1)
      return;
    LayoutSweep sweep(module, mesh, getArgument());
    for (auto function : module.getOps<func::FuncOp>())
      if (function->hasAttr(kProgramAttr) && function.getNumArguments() > 0 && failed(split(function, mesh, sweep)))
        return signalPassFailure();
  }

  LogicalResult split(func::FuncOp function, MeshAttr mesh, LayoutSweep &sweep) {
    auto typeOfArgument = [&](unsigned i) { return cast<RankedTensorType>(function.getArgumentTypes()[i]); };
    // All inputs of a batch have its sequences as their first dimension; what has not (positions) is for all of them.
    const int64_t sequences = typeOfArgument(0).getRank() > 0 ? typeOfArgument(0).getDimSize(0) : 1;
    SmallVector<LayoutAttr> layouts;
    for (unsigned i = 0; i < function.getNumArguments(); ++i) {
      RankedTensorType type = typeOfArgument(i);
      auto layout = cast<LayoutAttr>(type.getEncoding());
      for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
        if (mesh.getSizes()[axis] > 1 && type.getRank() > 0 && type.getDimSize(0) == sequences)
          layout = layout.with(axis, AxisKind::Shard, 0);
      layouts.push_back(layout);
    }
    if (sequences % mesh.ranks() != 0)
      return function.emitError() << "a batch of " << sequences << " sequences does not divide among the "
                                  << mesh.ranks() << " ranks of " << mesh << "; bind a batch that is a multiple of "
                                  << mesh.ranks();
    return sweep.run(function, layouts);
  }
};

} // namespace
} // namespace moe::ir
