//===- Shard.cpp - Layouts on the mesh --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/RetypeTensors.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_SHARD
#include "passes/Passes.h.inc"

namespace {

struct ShardPass : impl::ShardBase<ShardPass> {
  using ShardBase::ShardBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<StringAttr> names;
    SmallVector<int64_t> extents(sizes.begin(), sizes.end());
    for (const std::string &axis : axes)
      names.push_back(StringAttr::get(&getContext(), axis));
    if (names.empty()) {
      names = {StringAttr::get(&getContext(), "data"), StringAttr::get(&getContext(), "expert")};
      extents = {1, 1};
    }
    if (names.size() != extents.size()) {
      module.emitError("shard needs as many sizes as axes");
      return signalPassFailure();
    }
    if (llvm::any_of(extents, [](int64_t size) { return size < 1; })) {
      module.emitError("shard needs sizes of at least 1");
      return signalPassFailure();
    }
    module->setAttr("moe.mesh", MeshAttr::get(&getContext(), names, extents));
    auto layout = LayoutAttr::replicated(&getContext(), names);
    auto onMesh = [&](RankedTensorType type) {
      return RankedTensorType::get(type.getShape(), type.getElementType(), layout);
    };
    retypeTensors(module, onMesh);
    for (auto state : module.getOps<StateOp>())
      state.setTypeAttr(TypeAttr::get(onMesh(state.getTensorType())));
  }
};

} // namespace
} // namespace moe::ir
