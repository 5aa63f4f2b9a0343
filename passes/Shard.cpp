//===- Shard.cpp - Layouts on the mesh --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"
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
    if (llvm::any_of(extents, [](int64_t size) { return size != 1; })) {
      module.emitError("meshes of more than one rank are planned; compile with --ranks 1");
      return signalPassFailure();
    }
    module->setAttr("moe.mesh", MeshAttr::get(&getContext(), names, extents));
    auto layout = LayoutAttr::replicated(&getContext(), names);
    auto onMesh = [&](Type type) -> Type {
      auto tensor = dyn_cast<RankedTensorType>(type);
      return tensor ? RankedTensorType::get(tensor.getShape(), tensor.getElementType(), layout) : type;
    };
    module.walk([&](Operation *op) {
      for (Value result : op->getResults())
        result.setType(onMesh(result.getType()));
      for (Region &region : op->getRegions())
        for (BlockArgument argument : region.getArguments())
          argument.setType(onMesh(argument.getType()));
      if (auto state = dyn_cast<StateOp>(op))
        state.setTypeAttr(TypeAttr::get(onMesh(state.getTensorType())));
      if (auto constant = dyn_cast<ConstantOp>(op))
        retype(constant);
      if (auto function = dyn_cast<func::FuncOp>(op)) {
        SmallVector<Type> inputs = llvm::map_to_vector(function.getArgumentTypes(), onMesh);
        SmallVector<Type> results = llvm::map_to_vector(function.getResultTypes(), onMesh);
        function.setFunctionType(FunctionType::get(&getContext(), inputs, results));
      }
    });
  }

  /// The value of a constant has the type of its result, layout included.
  void retype(ConstantOp constant) {
    auto dense = cast<DenseElementsAttr>(constant.getValue());
    RankedTensorType type = constant.getType();
    constant.setValueAttr(cast<ElementsAttr>(DenseElementsAttr::getFromRawBuffer(type, dense.getRawData())));
  }
};

} // namespace
} // namespace moe::ir
