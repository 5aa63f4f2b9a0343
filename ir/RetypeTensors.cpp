//===- RetypeTensors.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/RetypeTensors.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace moe::ir {

void retypeTensors(Operation *root, llvm::function_ref<RankedTensorType(RankedTensorType)> map) {
  auto retyped = [&](Type type) -> Type {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor ? map(tensor) : type;
  };
  root->walk([&](Operation *op) {
    for (Value result : op->getResults())
      result.setType(retyped(result.getType()));
    for (Region &region : op->getRegions())
      for (BlockArgument argument : region.getArguments())
        argument.setType(retyped(argument.getType()));
    // The value of a constant has the type of its result, layout included.
    if (auto constant = dyn_cast<ConstantOp>(op)) {
      auto dense = cast<DenseElementsAttr>(constant.getValue());
      constant.setValueAttr(
          cast<ElementsAttr>(DenseElementsAttr::getFromRawBuffer(constant.getType(), dense.getRawData())));
    }
    if (auto function = dyn_cast<func::FuncOp>(op))
      function.setFunctionType(FunctionType::get(op->getContext(),
                                                 llvm::map_to_vector(function.getArgumentTypes(), retyped),
                                                 llvm::map_to_vector(function.getResultTypes(), retyped)));
  });
}

void dropLayouts(Operation *root) {
  auto layoutOf = [](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor ? dyn_cast_if_present<LayoutAttr>(tensor.getEncoding()) : LayoutAttr();
  };
  root->walk([&](func::FuncOp function) {
    for (auto [i, type] : llvm::enumerate(function.getArgumentTypes()))
      if (LayoutAttr layout = layoutOf(type))
        function.setArgAttr(static_cast<unsigned>(i), kLayoutAttr, layout);
    for (auto [i, type] : llvm::enumerate(function.getResultTypes()))
      if (LayoutAttr layout = layoutOf(type))
        function.setResultAttr(static_cast<unsigned>(i), kLayoutAttr, layout);
  });
  root->walk([&](Operation *op) {
    if (op->hasTrait<PlaceDependent>())
      if (LayoutAttr layout = layoutOf(op->getResult(0).getType()); layout && !layout.isReplicated())
        op->setAttr(kLayoutAttr, layout);
  });
  retypeTensors(root, [](RankedTensorType type) {
    return isa_and_present<LayoutAttr>(type.getEncoding())
               ? RankedTensorType::get(type.getShape(), type.getElementType())
               : type;
  });
}

} // namespace moe::ir
