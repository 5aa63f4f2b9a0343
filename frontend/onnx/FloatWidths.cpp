//===- FloatWidths.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/FloatWidths.h"

#include "frontend/onnx/Import.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;

namespace moe::frontend {
namespace {

bool isDouble(Type type) {
  return getElementTypeOrSelf(type).isF64();
}

/// The type of float32 for a tensor of other floats, else the type itself.
Type inFloat32(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa<FloatType>(tensor.getElementType()) ? tensor.clone(Float32Type::get(type.getContext())) : type;
}

void retype(ir::ConstantOp op) {
  auto values = cast<DenseElementsAttr>(op.getValue());
  if (values.isSplat() && !op->hasAttr(kExactAttribute))
    op->setAttr(kExactAttribute,
                FloatAttr::get(Float64Type::get(op.getContext()), values.getSplatValue<APFloat>().convertToDouble()));
  op.setValueAttr(values.mapValues(Float32Type::get(op.getContext()), [](const APFloat &value) {
    return APFloat(static_cast<float>(value.convertToDouble())).bitcastToAPInt();
  }));
}

} // namespace

bool useFloat32(ModuleOp module) {
  bool isLossy = false;
  auto all = [](TypeRange types) { return llvm::map_to_vector(types, inFloat32); };
  for (func::FuncOp function : module.getOps<func::FuncOp>()) {
    FunctionType type = function.getFunctionType();
    isLossy |= llvm::any_of(type.getInputs(), isDouble);
    for (BlockArgument argument : function.getArguments())
      argument.setType(inFloat32(argument.getType()));
    function.setType(FunctionType::get(module.getContext(), all(type.getInputs()), all(type.getResults())));
    function.walk([&](Operation *op) {
      if (auto constant = dyn_cast<ir::ConstantOp>(op); constant && inFloat32(constant.getType()) != constant.getType())
        retype(constant);
      for (OpResult result : op->getResults())
        result.setType(inFloat32(result.getType()));
      auto cast = dyn_cast<ir::CastOp>(op);
      if (!cast || !isa<FloatType>(cast.getTo()))
        return;
      isLossy |= cast.getTo().isF64() && cast.getInput().getDefiningOp<ir::ReadOp>();
      cast.setTo(Float32Type::get(op->getContext()));
    });
    // Casts that no longer convert anything.
    function.walk([](ir::CastOp op) {
      if (op.getInput().getType() != op.getType())
        return;
      op.getResult().replaceAllUsesWith(op.getInput());
      op.erase();
    });
  }
  return isLossy;
}

} // namespace moe::frontend
