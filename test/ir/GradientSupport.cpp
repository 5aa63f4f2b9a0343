//===- GradientSupport.cpp - Functions that compute gradients of one operation ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/GradientSupport.h"
#include "ir/Ops.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Verifier.h"

using namespace mlir;

namespace moe::test {

namespace {

bool isFloatTensor(Value value) {
  return isa<FloatType>(ir::typeOf(value).getElementType());
}

/// A new function with the arguments of @f and the cotangents of `results`; its block is open for operations.
struct GradientFunction {
  ModuleOp module;
  func::FuncOp function;
  OpBuilder builder;
  /// Gradient of each result of the subject, null where none arrives.
  SmallVector<Value> resultGrads;
  /// What the arguments of @f have become.
  IRMapping mapping;

  GradientFunction(ModuleOp module, ArrayRef<unsigned> results)
      : module(module), builder(module.getContext()), resultGrads(subject(module)->getNumResults()) {
    Operation *op = subject(module);
    auto original = module.lookupSymbol<func::FuncOp>("f");
    SmallVector<Type> types(original.getArgumentTypes());
    for (unsigned result : results)
      types.push_back(ir::dualType(ir::typeOf(op->getResult(result))));
    if (Operation *previous = module.lookupSymbol("gradient"))
      previous->erase();
    builder.setInsertionPointToEnd(module.getBody());
    function = func::FuncOp::create(builder, op->getLoc(), "gradient", builder.getFunctionType(types, {}));
    Block *block = function.addEntryBlock();
    builder.setInsertionPointToEnd(block);
    for (BlockArgument argument : original.getArguments())
      mapping.map(argument, block->getArgument(argument.getArgNumber()));
    for (auto [i, result] : llvm::enumerate(results))
      resultGrads[result] = block->getArgument(original.getNumArguments() + i);
  }

  /// Returns those of `values` that are not null and runs the function.
  OptionalTensors run(ArrayRef<Value> values, const std::vector<ir::HostTensor> &inputs,
                      const std::vector<ir::HostTensor> &cotangents, int64_t rank = 0) {
    SmallVector<Value> present;
    for (Value value : values)
      if (value)
        present.push_back(value);
    func::ReturnOp::create(builder, function.getLoc(), present);
    function.setType(builder.getFunctionType(function.getArgumentTypes(), ValueRange(present).getTypes()));
    if (failed(verify(module)))
      return {};
    std::vector<ir::HostTensor> arguments = inputs;
    arguments.insert(arguments.end(), cotangents.begin(), cotangents.end());
    ir::InterpreterState state(module);
    FailureOr<std::vector<ir::HostTensor>> computed =
        ir::interpret(module, "gradient", arguments, state, {.rank = rank});
    if (failed(computed))
      return {};
    OptionalTensors result(values.size());
    size_t next = 0;
    for (auto [i, value] : llvm::enumerate(values))
      if (value)
        result[i] = (*computed)[next++];
    return result;
  }
};

} // namespace

Operation *subject(ModuleOp module) {
  return &module.lookupSymbol<func::FuncOp>("f").getBody().front().front();
}

llvm::SmallBitVector floatOperands(Operation *op) {
  llvm::SmallBitVector bits(op->getNumOperands());
  for (auto [i, operand] : llvm::enumerate(op->getOperands()))
    if (isFloatTensor(operand))
      bits.set(i);
  return bits;
}

OptionalTensors adjointGradients(ModuleOp module, const OperationCase &example,
                                 const std::vector<ir::HostTensor> &inputs,
                                 const std::vector<ir::HostTensor> &cotangents, const llvm::SmallBitVector &needed,
                                 int64_t rank) {
  GradientFunction gradient(module, example.results);
  Operation *op = gradient.builder.clone(*subject(module), gradient.mapping);
  SmallVector<Value> grads(op->getNumOperands());
  auto differentiable = dyn_cast<ir::DifferentiableOpInterface>(op);
  if (!differentiable || failed(differentiable.buildAdjoint(gradient.builder, gradient.resultGrads, needed, grads))) {
    gradient.function.erase();
    return {};
  }
  return gradient.run(grads, inputs, cotangents, rank);
}

OptionalTensors decomposedGradients(ModuleOp module, const OperationCase &example,
                                    const std::vector<ir::HostTensor> &inputs,
                                    const std::vector<ir::HostTensor> &cotangents) {
  GradientFunction gradient(module, example.results);
  Operation *op = gradient.builder.clone(*subject(module), gradient.mapping);
  auto results = cast<ir::DecomposableOpInterface>(op).decompose(gradient.builder);
  if (failed(results)) {
    gradient.function.erase();
    return {};
  }
  llvm::DenseMap<Value, Value> grads;
  auto accumulate = [&](Value value, Value grad) {
    Value &sum = grads[value];
    sum = sum ? ir::AddOp::create(gradient.builder, op->getLoc(), sum, grad).getResult() : grad;
  };
  for (auto [result, grad] : llvm::zip_equal(*results, gradient.resultGrads))
    if (grad)
      accumulate(result, grad);
  SmallVector<Operation *> forward;
  for (Operation &finer : gradient.function.getBody().front())
    if (&finer != op)
      forward.push_back(&finer);
  for (Operation *finer : llvm::reverse(forward)) {
    SmallVector<Value> resultGrads;
    for (Value result : finer->getResults())
      resultGrads.push_back(grads.lookup(result));
    auto differentiable = dyn_cast<ir::DifferentiableOpInterface>(finer);
    if (!differentiable || llvm::none_of(resultGrads, [](Value grad) { return static_cast<bool>(grad); }))
      continue;
    SmallVector<Value> operandGrads(finer->getNumOperands());
    llvm::SmallBitVector needed = floatOperands(finer);
    if (needed.none())
      continue;
    if (failed(differentiable.buildAdjoint(gradient.builder, resultGrads, needed, operandGrads)))
      return {};
    for (auto [operand, grad] : llvm::zip_equal(finer->getOperands(), operandGrads))
      if (grad)
        accumulate(operand, grad);
  }
  SmallVector<Value> operandGrads;
  for (Value operand : op->getOperands())
    operandGrads.push_back(grads.lookup(operand));
  return gradient.run(operandGrads, inputs, cotangents);
}

OptionalTensors decomposedResults(ModuleOp module, const std::vector<ir::HostTensor> &inputs) {
  GradientFunction finer(module, {});
  Operation *op = finer.builder.clone(*subject(module), finer.mapping);
  auto results = cast<ir::DecomposableOpInterface>(op).decompose(finer.builder);
  if (failed(results)) {
    finer.function.erase();
    return {};
  }
  op->erase();
  return finer.run(*results, inputs, {});
}

std::vector<ir::HostTensor> cotangentsOf(const OperationCase &example, ModuleOp module) {
  std::vector<ir::HostTensor> cotangents;
  for (unsigned result : example.results) {
    ir::HostTensor value(ir::typeOf(subject(module)->getResult(result)));
    value.floats = randomNumbers(value.size(), -1, 1, 100 + result);
    cotangents.push_back(std::move(value));
  }
  return cotangents;
}

} // namespace moe::test
