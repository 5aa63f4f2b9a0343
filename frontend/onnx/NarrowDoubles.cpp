//===- NarrowDoubles.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/NarrowDoubles.h"

#include "frontend/onnx/Import.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace moe::frontend {
namespace {

bool isDouble(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getElementType().isF64();
}

/// The type of float32 for a tensor of float64, else the type itself.
Type narrowed(Type type) {
  return isDouble(type) ? cast<RankedTensorType>(type).clone(Float32Type::get(type.getContext())) : type;
}

void narrowConstant(ir::ConstantOp op) {
  auto wide = cast<DenseElementsAttr>(op.getValue());
  if (wide.isSplat() && !op->hasAttr(kExactAttribute))
    op->setAttr(kExactAttribute,
                FloatAttr::get(wide.getElementType(), wide.getSplatValue<APFloat>().convertToDouble()));
  Type f32 = Float32Type::get(op.getContext());
  op.setValueAttr(wide.mapValues(
      f32, [](const APFloat &value) { return APFloat(static_cast<float>(value.convertToDouble())).bitcastToAPInt(); }));
}

} // namespace

bool narrowDoubles(ModuleOp module) {
  bool lost = false;
  for (func::FuncOp function : module.getOps<func::FuncOp>()) {
    for (BlockArgument argument : function.getArguments()) {
      lost |= isDouble(argument.getType());
      argument.setType(narrowed(argument.getType()));
    }
    function.walk([&](Operation *op) {
      if (auto constant = dyn_cast<ir::ConstantOp>(op); constant && isDouble(constant.getType()))
        narrowConstant(constant);
      for (OpResult result : op->getResults())
        result.setType(narrowed(result.getType()));
      auto cast = dyn_cast<ir::CastOp>(op);
      if (!cast || !cast.getTo().isF64())
        return;
      cast.setTo(Float32Type::get(op->getContext()));
      lost |= static_cast<bool>(cast.getInput().getDefiningOp<ir::ReadOp>());
    });
    auto narrow = [](TypeRange types) { return llvm::map_to_vector(types, narrowed); };
    FunctionType type = function.getFunctionType();
    function.setType(FunctionType::get(module.getContext(), narrow(type.getInputs()), narrow(type.getResults())));
    // Of what widened, nothing is left.
    function.walk([](ir::CastOp op) {
      if (op.getInput().getType() != op.getType())
        return;
      op.getResult().replaceAllUsesWith(op.getInput());
      op.erase();
    });
  }
  return lost;
}

} // namespace moe::frontend
