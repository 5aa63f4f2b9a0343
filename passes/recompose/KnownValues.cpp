//===- KnownValues.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/KnownValues.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace moe::ir::recompose {

ElementsAttr KnownValues::frozenElements(ReadOp read) {
  auto state = module.lookupSymbol<StateOp>(read.getState());
  return state ? state->getAttrOfType<ElementsAttr>(kElementsAttr) : ElementsAttr();
}

bool KnownValues::isKnown(Value value) {
  auto [entry, isNew] = known.try_emplace(value, false);
  Operation *op = value.getDefiningOp();
  if (!isNew || !op)
    return entry->second;
  // Depth first without recursion: masks of exports are deep, and models deeper.
  SmallVector<Operation *> pending{op};
  while (!pending.empty()) {
    Operation *current = pending.back();
    bool all = isMemoryEffectFree(current) && current->getNumRegions() == 0;
    if (auto read = dyn_cast<ReadOp>(current))
      all = static_cast<bool>(frozenElements(read));
    for (Type type : current->getResultTypes())
      all = all && isa<RankedTensorType>(type) && cast<RankedTensorType>(type).getNumElements() <= kMaxElements;
    Operation *next = nullptr;
    for (Value operand : current->getOperands()) {
      if (!all)
        break;
      Operation *source = operand.getDefiningOp();
      if (source && known.try_emplace(operand, false).second)
        next = source;
      else
        all = known.lookup(operand);
      if (next)
        break;
    }
    if (next) {
      pending.push_back(next);
      continue;
    }
    for (Value result : current->getResults())
      known[result] = all;
    pending.pop_back();
  }
  return known.lookup(value);
}

const HostTensor *KnownValues::get(Value value) {
  if (!isKnown(value))
    return nullptr;
  if (auto found = values.find(value); found != values.end())
    return found->second.get();
  SetVector<Operation *> slice;
  slice.insert(value.getDefiningOp());
  for (size_t i = 0; i < slice.size(); ++i) // grows while it runs
    for (Value operand : slice[i]->getOperands())
      slice.insert(operand.getDefiningOp());
  OpBuilder builder(module.getContext());
  OwningOpRef<ModuleOp> scratch(ModuleOp::create(builder, value.getLoc()));
  builder.setInsertionPointToStart(scratch->getBody());
  auto function = func::FuncOp::create(builder, value.getLoc(), "f", builder.getFunctionType({}, value.getType()));
  builder.setInsertionPointToStart(function.addEntryBlock());
  IRMapping copies;
  for (Operation *op : topologicalSort(slice)) {
    if (auto read = dyn_cast<ReadOp>(op))
      copies.map(read.getResult(),
                 ConstantOp::create(builder, op->getLoc(), read.getType(), frozenElements(read)).getResult());
    else
      builder.clone(*op, copies);
  }
  func::ReturnOp::create(builder, value.getLoc(), copies.lookup(value));
  InterpreterState state(*scratch);
  // An operation that fails (a division by zero) makes the value unknown; the program itself will say so when it runs.
  ScopedDiagnosticHandler silence(module.getContext(), [](Diagnostic &) { return success(); });
  FailureOr<std::vector<HostTensor>> results = interpret(*scratch, "f", {}, state);
  std::unique_ptr<HostTensor> &entry = values[value];
  if (succeeded(results))
    entry = std::make_unique<HostTensor>(std::move(results->front()));
  return entry.get();
}

std::optional<double> KnownValues::scalar(Value value) {
  // A broadcast of millions of elements is not worth evaluating.
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<BroadcastOp, ReshapeOp, TransposeOp>(op))
      break;
    value = op->getOperand(0);
  }
  if (auto constant = value.getDefiningOp<ConstantOp>()) {
    auto dense = dyn_cast<DenseElementsAttr>(constant.getValue());
    if (dense && dense.isSplat() && isa<FloatType>(dense.getElementType()))
      return dense.getSplatValue<APFloat>().convertToDouble();
  }
  if (typeOf(value).getNumElements() != 1)
    return std::nullopt;
  const HostTensor *tensor = get(value);
  return tensor ? std::optional(tensor->at(0)) : std::nullopt;
}

} // namespace moe::ir::recompose
