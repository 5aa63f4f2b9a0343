//===- ElementWidths.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ElementWidths.h"

#include "frontend/onnx/Import.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;

namespace moe::frontend {

Type heldElement(Type element) {
  if (isa<FloatType>(element))
    return Float32Type::get(element.getContext());
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer || integer.getWidth() == 1)
    return element;
  const unsigned own = integer.getWidth() + (integer.isUnsigned() ? 1 : 0);
  return IntegerType::get(element.getContext(), own <= 32 ? 32 : 64);
}

DenseElementsAttr heldElements(DenseElementsAttr values) {
  const Type from = values.getElementType(), to = heldElement(from);
  if (from == to)
    return values;
  if (isa<FloatType>(from))
    return values.mapValues(
        to, [](const APFloat &value) { return APFloat(static_cast<float>(value.convertToDouble())).bitcastToAPInt(); });
  const unsigned width = to.getIntOrFloatBitWidth();
  const bool isUnsigned = from.isUnsignedInteger();
  return values.mapValues(to, [&](const APInt &value) { return isUnsigned ? value.zext(width) : value.sext(width); });
}

namespace {

bool isDouble(Type type) {
  return getElementTypeOrSelf(type).isF64();
}

Type held(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? tensor.clone(heldElement(tensor.getElementType())) : type;
}

void retype(ir::ConstantOp op) {
  auto values = cast<DenseElementsAttr>(op.getValue());
  if (isa<FloatType>(values.getElementType()) && values.isSplat() && !op->hasAttr(kExactAttribute))
    op->setAttr(kExactAttribute,
                FloatAttr::get(Float64Type::get(op.getContext()), values.getSplatValue<APFloat>().convertToDouble()));
  op.setValueAttr(heldElements(values));
}

/// Whether the result may be a number that its type does not hold before it is wrapped.
bool mayOverflow(Operation *op) {
  if (auto cast = dyn_cast<ir::CastOp>(op)) {
    // What a file has in this type fits it.
    return !ir::typeOf(cast.getInput()).getElementType().isInteger(1) && !cast.getInput().getDefiningOp<ir::ReadOp>();
  }
  return !isa<ir::ConstantOp, ir::ReadOp, ir::ReshapeOp, ir::BroadcastOp, ir::TransposeOp, ir::SliceOp, ir::ConcatOp,
              ir::PadOp, ir::GatherOp, ir::SelectOp, ir::MaxOp, ir::MinOp, ir::AndOp, ir::OrOp>(op);
}

/// `value` as integers of type `type` wrap it: the low bits, of which the highest is the sign if there is one.
void wrap(Value value, IntegerType type) {
  OpBuilder builder(value.getContext());
  builder.setInsertionPointAfterValue(value);
  RankedTensorType tensor = ir::typeOf(value);
  SmallPtrSet<Operation *, 4> made;
  auto make = [&]<typename Op>(Value with, Op, int64_t number) -> Value {
    auto splat = DenseElementsAttr::get(tensor, Attribute(builder.getIntegerAttr(tensor.getElementType(), number)));
    Value constant = ir::ConstantOp::create(builder, value.getLoc(), tensor, splat);
    auto op = Op::create(builder, value.getLoc(), with, constant);
    made.insert(op);
    return op;
  };
  const int64_t range = int64_t(1) << type.getWidth(), half = type.isUnsigned() ? 0 : range / 2;
  Value wrapped = half != 0 ? make(value, ir::AddOp(), half) : value;
  wrapped = make(wrapped, ir::AndOp(), range - 1);
  if (half != 0)
    wrapped = make(wrapped, ir::SubOp(), half);
  value.replaceAllUsesExcept(wrapped, made);
}

} // namespace

bool useKernelTypes(ModuleOp module) {
  bool isLossy = false;
  auto all = [](TypeRange types) { return llvm::map_to_vector(types, held); };
  for (func::FuncOp function : module.getOps<func::FuncOp>()) {
    FunctionType type = function.getFunctionType();
    isLossy |= llvm::any_of(type.getInputs(), isDouble);
    for (BlockArgument argument : function.getArguments())
      argument.setType(held(argument.getType()));
    function.setType(FunctionType::get(module.getContext(), all(type.getInputs()), all(type.getResults())));
    llvm::SmallVector<std::pair<Value, IntegerType>> wide;
    function.walk([&](Operation *op) {
      if (auto constant = dyn_cast<ir::ConstantOp>(op); constant && held(constant.getType()) != constant.getType())
        retype(constant);
      for (OpResult result : op->getResults()) {
        const Type own = result.getType();
        auto integer = dyn_cast<IntegerType>(getElementTypeOrSelf(own));
        result.setType(held(own));
        if (integer && result.getType() != own && mayOverflow(op))
          wide.emplace_back(result, integer);
      }
      auto cast = dyn_cast<ir::CastOp>(op);
      if (!cast)
        return;
      isLossy |= cast.getTo().isF64() && cast.getInput().getDefiningOp<ir::ReadOp>();
      cast.setTo(heldElement(cast.getTo()));
    });
    for (auto [value, integer] : wide)
      wrap(value, integer);
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
