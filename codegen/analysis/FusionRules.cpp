//===- FusionRules.cpp - Roles of operations in fused regions ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/FusionRules.h"

#include "ir/Ops.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

bool isKernelElementType(Type type) {
  return type.isF32() || type.isF16() || type.isBF16() || type.isInteger(1) || type.isInteger(8) ||
         type.isInteger(32) || type.isInteger(64);
}

FusionRole classifyFusible(Operation *op) {
  auto supported = [](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor && tensor.hasStaticShape() &&
           (isKernelElementType(tensor.getElementType()) || tensor.getElementType().isF64());
  };
  if (!llvm::all_of(op->getOperandTypes(), supported) || !llvm::all_of(op->getResultTypes(), supported))
    return FusionRole::None;
  return TypeSwitch<Operation *, FusionRole>(op)
      .Case([](ConstantOp constant) {
        return isa<DenseElementsAttr>(constant.getValue()) ? FusionRole::Source : FusionRole::None;
      })
      .Case<IotaOp, RandomUniformOp>([](auto) { return FusionRole::Source; })
      .Case<BroadcastOp, TransposeOp, ReshapeOp, SliceOp, PadOp, ConcatOp>([](auto) { return FusionRole::Access; })
      .Case([](GatherOp) { return FusionRole::Indirect; })
      .Case([](ReduceOp) { return FusionRole::Reduction; })
      .Case([](ElementwiseOpInterface) { return FusionRole::Pointwise; })
      .Default(FusionRole::None);
}

} // namespace moe::codegen
