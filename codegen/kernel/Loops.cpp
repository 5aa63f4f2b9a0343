//===- Loops.cpp - What the emitters of all targets write loops with ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/kernel/Loops.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;

namespace moe::codegen {

Value divide(NodeEmitter &e, Value value, int64_t divisor) {
  return divisor == 1 ? value : Value(arith::DivUIOp::create(e.b, value, e.constant(divisor)));
}

Value remainder(NodeEmitter &e, Value value, int64_t divisor) {
  return divisor == 1 ? e.constant(0) : Value(arith::RemUIOp::create(e.b, value, e.constant(divisor)));
}

Values forLoop(NodeEmitter &e, Value low, Value high, Value step, const Values &carried,
               llvm::function_ref<void(Value, Values &)> body) {
  auto loop = scf::ForOp::create(e.b, low, high, step, carried);
  OpBuilder::InsertionGuard guard(e.b);
  if (carried.empty())
    e.b.setInsertionPoint(loop.getBody()->getTerminator());
  else
    e.b.setInsertionPointToEnd(loop.getBody());
  Values current(loop.getRegionIterArgs().begin(), loop.getRegionIterArgs().end());
  body(loop.getInductionVar(), current);
  if (!carried.empty())
    scf::YieldOp::create(e.b, current);
  return Values(loop.getResults().begin(), loop.getResults().end());
}

Values forLoop(NodeEmitter &e, Value low, Value high, int64_t step, const Values &carried,
               llvm::function_ref<void(Value, Values &)> body) {
  return forLoop(e, low, high, e.constant(step), carried, body);
}

void ifThen(NodeEmitter &e, Value condition, llvm::function_ref<void()> body) {
  auto branch = scf::IfOp::create(e.b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(e.b);
  e.b.setInsertionPoint(branch.getThenRegion().front().getTerminator());
  body();
}

void setDims(NodeEmitter &e, ArrayRef<unsigned> dims, Value position, Scope &scope) {
  for (unsigned dim : llvm::reverse(dims.drop_front(dims.empty() ? 0 : 1))) {
    int64_t size = e.strategy.sizeOf(dim);
    scope.dims[dim] = remainder(e, position, size);
    position = divide(e, position, size);
  }
  if (!dims.empty())
    scope.dims[dims.front()] = position;
}

Scope outerScope(NodeEmitter &e) {
  Scope scope;
  scope.dims.resize(e.graph.space.numDims());
  return scope;
}

/// Bytes by which every buffer of a plan is aligned.
static constexpr int64_t bufferAlignment = 64;

void markPointers(LLVM::LLVMFuncOp function, const Strategy &strategy, const PlannedCall &call) {
  OpBuilder b(function.getContext());
  for (auto [position, operand] : llvm::enumerate(call.operands)) {
    bool mayOverlap = llvm::any_of(strategy.plan.inPlace, [&](const InPlacePair &pair) {
      return (operand.kind == PlannedOperand::Kind::Input && pair.input == operand.index) ||
             (operand.kind == PlannedOperand::Kind::Output && pair.output == operand.index);
    });
    if (!mayOverlap)
      function.setArgAttr(position, "llvm.noalias", b.getUnitAttr());
    function.setArgAttr(position, "llvm.align", b.getI64IntegerAttr(bufferAlignment));
  }
}

void bindParameters(NodeEmitter &e, LLVM::LLVMFuncOp function, const PlannedCall &call) {
  e.inputs.assign(ir::FusedOp(e.graph.op).getInputs().size(), Value());
  e.outputs.assign(e.graph.outputs.size(), Value());
  for (auto [position, operand] : llvm::enumerate(call.operands)) {
    Value argument = function.getArgument(position);
    if (operand.kind == PlannedOperand::Kind::Input)
      e.inputs[operand.index] = argument;
    else if (operand.kind == PlannedOperand::Kind::Output)
      e.outputs[operand.index] = argument;
    else
      e.scratch = argument;
  }
  for (size_t i = 0; i < e.strategy.plan.numbers.size(); ++i)
    e.numbers.push_back(function.getArgument(call.operands.size() + i));
}

} // namespace moe::codegen
