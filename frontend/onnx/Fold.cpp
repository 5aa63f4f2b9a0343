//===- Fold.cpp - Constant expressions and tensors without elements, as they are imported -------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Limits.h"
#include "frontend/onnx/Program.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/STLExtras.h"
#include <functional>

using namespace mlir;

namespace moe::frontend {
namespace {

/// Constant expressions with more elements are not known at import.
constexpr int64_t kFoldLimit = 4096;

/// Larger results stay operations: an iota or a mask is cheaper to compute than to read.
constexpr size_t kReplaceLimit = 64;

bool isEmpty(Value value) {
  return ir::typeOf(value).getNumElements() == 0;
}

} // namespace

std::optional<ir::HostTensor> Program::evaluate(Value value) {
  auto found = constants.find(value);
  if (found == constants.end())
    return std::nullopt;
  return found->second;
}

Value Program::withoutElements(RankedTensorType type, Location loc) {
  Value value =
      ir::ConstantOp::create(builder, loc, type, DenseElementsAttr::get(type, llvm::ArrayRef<Attribute>())).getResult();
  constants[value] = ir::HostTensor(type);
  return value;
}

Value Program::replaceByConstant(Operation *op, ir::HostTensor result) {
  RankedTensorType type = ir::typeOf(op->getResult(0));
  Type element = type.getElementType();
  llvm::SmallVector<Attribute> elements;
  for (int64_t i = 0; i < result.size(); ++i)
    elements.push_back(result.isFloat
                           ? Attribute(builder.getFloatAttr(element, result.floats[static_cast<size_t>(i)]))
                           : Attribute(builder.getIntegerAttr(
                                 element, llvm::APInt(type.getElementTypeBitWidth(),
                                                      static_cast<uint64_t>(result.ints[static_cast<size_t>(i)]),
                                                      /*isSigned=*/true, /*implicitTrunc=*/true))));
  if (llvm::all_equal(elements) && !elements.empty())
    elements.resize(1);
  Value constant =
      ir::ConstantOp::create(builder, op->getLoc(), type, DenseElementsAttr::get(type, elements)).getResult();
  op->erase();
  constants[constant] = std::move(result);
  return constant;
}

Value Program::fold(Value value) {
  Operation *op = value.getDefiningOp();
  RankedTensorType type = ir::typeOf(value);
  if (op->getNumResults() != 1)
    return value;
  if (isEmpty(value)) {
    Value empty = withoutElements(type, op->getLoc());
    op->erase();
    return empty;
  }
  if (auto concat = dyn_cast<ir::ConcatOp>(op); concat && llvm::any_of(op->getOperands(), isEmpty)) {
    // Parts without elements add nothing.
    llvm::SmallVector<Value> parts(llvm::make_filter_range(op->getOperands(), std::not_fn(isEmpty)));
    Value rest = parts.size() == 1 ? parts.front()
                                   : fold(ir::ConcatOp::create(builder, op->getLoc(), type, parts, concat.getDim()));
    op->erase();
    return rest;
  }
  // What is computed from nothing is a constant, such as a sum of 0: it must not stay an operation.
  const bool fromNothing = llvm::any_of(op->getOperands(), isEmpty);
  const Value unknown = fromNothing ? Value() : value;
  if (type.getNumElements() > kFoldLimit || !isMemoryEffectFree(op))
    return unknown;
  llvm::SmallVector<const ir::HostTensor *> operands;
  for (Value operand : op->getOperands()) {
    auto known = constants.find(operand);
    if (known == constants.end())
      return unknown;
    operands.push_back(&known->second);
  }
  auto moeOp = dyn_cast<ir::MoeOpInterface>(op);
  if (!moeOp || !spend(moeOp.getCost().flops + Work::kElement * static_cast<double>(type.getNumElements())))
    return unknown;
  ir::InterpreterContext context(noState, {});
  std::vector<ir::HostTensor> results(1, ir::HostTensor(type));
  if (failed(moeOp.interpret(context, operands, results)))
    return unknown;
  ir::HostTensor &result = results.front();
  for (int64_t &element : result.ints)
    element = ir::wrapToType(element, type.getElementType());
  if (!fromNothing && (result.isFloat || isa<ir::ConstantOp>(op) || result.ints.size() > kReplaceLimit)) {
    constants[value] = std::move(result);
    return value;
  }
  return replaceByConstant(op, std::move(result));
}

} // namespace moe::frontend
