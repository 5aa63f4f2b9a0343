//===- Interpreter.cpp - Walks functions and blocks, keeps state ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Interpreter.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace moe::ir;

//===----------------------------------------------------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------------------------------------------------===//

/// First value of a state tensor: a number, dense data, or zeros for what the runtime draws or loads.
static HostTensor initialValue(StateOp state) {
  HostTensor value(state.getTensorType());
  Attribute initial = state.getInitialAttr();
  if (auto fill = dyn_cast_or_null<FloatAttr>(initial)) {
    if (value.isFloat)
      std::fill(value.floats.begin(), value.floats.end(), fill.getValueAsDouble());
    else
      std::fill(value.ints.begin(), value.ints.end(), static_cast<int64_t>(fill.getValueAsDouble()));
  } else if (auto fill = dyn_cast_or_null<IntegerAttr>(initial)) {
    int64_t number = fill.getType().isInteger(1) ? fill.getValue().getZExtValue() : fill.getValue().getSExtValue();
    if (value.isFloat)
      std::fill(value.floats.begin(), value.floats.end(), static_cast<double>(number));
    else
      std::fill(value.ints.begin(), value.ints.end(), number);
  } else if (auto dictionary = dyn_cast_or_null<DictionaryAttr>(initial)) {
    if (auto data = dictionary.getAs<ElementsAttr>("data"))
      if (FailureOr<HostTensor> dense = toHostTensor(data); succeeded(dense) && dense->shape == value.shape)
        return *dense;
  }
  return value;
}

InterpreterState::InterpreterState(ModuleOp module) {
  for (StateOp state : module.getOps<StateOp>())
    if (!state.getBucket()) {
      std::string name = state.getSymName().str();
      entries[name] = {state.getTensorType(), name, 0};
      storages[name] = initialValue(state);
    }
  // Views come second: what they say about their part wins over what the bucket says about the whole.
  for (StateOp state : module.getOps<StateOp>())
    if (state.getBucket() && storages.count(state.getBucket()->str())) {
      std::string name = state.getSymName().str();
      entries[name] = {state.getTensorType(), state.getBucket()->str(),
                       static_cast<int64_t>(state.getOffset().value_or(0))};
      if (state.getInitialAttr())
        write(name, initialValue(state));
    }
}

HostTensor InterpreterState::read(llvm::StringRef name) const {
  const Entry &entry = entries.at(name.str());
  const HostTensor &storage = storages.at(entry.storage);
  HostTensor value(entry.type);
  if (value.isFloat)
    std::copy_n(storage.floats.begin() + entry.offset, value.floats.size(), value.floats.begin());
  else
    std::copy_n(storage.ints.begin() + entry.offset, value.ints.size(), value.ints.begin());
  return value;
}

void InterpreterState::write(llvm::StringRef name, const HostTensor &value) {
  const Entry &entry = entries.at(name.str());
  HostTensor &storage = storages.at(entry.storage);
  if (value.isFloat)
    std::copy(value.floats.begin(), value.floats.end(), storage.floats.begin() + entry.offset);
  else
    std::copy(value.ints.begin(), value.ints.end(), storage.ints.begin() + entry.offset);
}

LogicalResult ReadOp::interpret(InterpreterContext &context, ArrayRef<const HostTensor *>,
                                MutableArrayRef<HostTensor> results) {
  if (!context.state.contains(getState()))
    return emitOpError() << "reads state '" << getState() << "', which the interpreter was not given";
  results[0] = context.state.read(getState());
  return success();
}

LogicalResult WriteOp::interpret(InterpreterContext &context, ArrayRef<const HostTensor *> operands,
                                 MutableArrayRef<HostTensor>) {
  if (!context.state.contains(getState()))
    return emitOpError() << "writes state '" << getState() << "', which the interpreter was not given";
  context.state.write(getState(), *operands[0]);
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Blocks and functions
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult FusedOp::interpret(InterpreterContext &context, ArrayRef<const HostTensor *> operands,
                                 MutableArrayRef<HostTensor> results) {
  std::vector<HostTensor> arguments;
  for (const HostTensor *operand : operands)
    arguments.push_back(*operand);
  FailureOr<std::vector<HostTensor>> yielded = interpretBlock(getBody().front(), arguments, context);
  if (failed(yielded))
    return failure();
  std::move(yielded->begin(), yielded->end(), results.begin());
  return success();
}

/// Brings a value into the range of its element type.
static void finish(HostTensor &value, RankedTensorType type, const InterpreterOptions &options) {
  Type elementType = type.getElementType();
  if (!value.isFloat) {
    for (int64_t &element : value.ints)
      element = wrapToType(element, elementType);
  } else if (options.roundToElementType) {
    for (double &element : value.floats)
      element = roundToType(element, elementType);
  }
}

static FailureOr<std::vector<HostTensor>> call(func::FuncOp function, ArrayRef<HostTensor> arguments,
                                               InterpreterContext &context) {
  if (function.isDeclaration() || !function.getBody().hasOneBlock())
    return function.emitOpError() << "has no single block that the interpreter could run";
  if (llvm::is_contained(context.activeFunctions, function.getOperation()))
    return function.emitOpError() << "calls itself";
  context.activeFunctions.push_back(function);
  FailureOr<std::vector<HostTensor>> results = interpretBlock(function.getBody().front(), arguments, context);
  context.activeFunctions.pop_back();
  return results;
}

static LogicalResult run(Operation &op, ArrayRef<const HostTensor *> operands, std::vector<HostTensor> &results,
                         InterpreterContext &context) {
  if (auto callOp = dyn_cast<func::CallOp>(op)) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(&op, callOp.getCalleeAttr());
    if (!callee)
      return callOp.emitOpError() << "calls an unknown function '" << callOp.getCallee() << "'";
    std::vector<HostTensor> arguments;
    for (const HostTensor *operand : operands)
      arguments.push_back(*operand);
    FailureOr<std::vector<HostTensor>> returned = call(callee, arguments, context);
    if (failed(returned))
      return failure();
    results = std::move(*returned);
    return success();
  }
  auto moeOp = dyn_cast<MoeOpInterface>(op);
  if (!moeOp)
    return op.emitOpError() << "has no reference semantics";
  for (Value result : op.getResults())
    results.emplace_back(typeOf(result));
  if (failed(moeOp.interpret(context, operands, results)))
    return failure();
  for (auto [result, value] : llvm::zip_equal(op.getResults(), results))
    finish(value, typeOf(result), context.options);
  return success();
}

/// Values that no operation after the key uses.
static llvm::DenseMap<Operation *, SmallVector<Value>> lastUses(Block &block) {
  llvm::DenseMap<Operation *, SmallVector<Value>> dying;
  llvm::DenseSet<Value> seen;
  for (Operation &op : llvm::reverse(block)) {
    for (Value operand : op.getOperands())
      if (seen.insert(operand).second)
        dying[&op].push_back(operand);
    for (Value result : op.getResults())
      if (seen.insert(result).second)
        dying[&op].push_back(result);
  }
  return dying;
}

FailureOr<std::vector<HostTensor>> moe::ir::interpretBlock(Block &block, ArrayRef<HostTensor> arguments,
                                                           InterpreterContext &context) {
  if (arguments.size() != block.getNumArguments())
    return block.getParentOp()->emitOpError()
           << "takes " << block.getNumArguments() << " values, but was given " << arguments.size();
  llvm::DenseMap<Value, HostTensor> values;
  for (auto [argument, value] : llvm::zip_equal(block.getArguments(), arguments)) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type || ArrayRef<int64_t>(value.shape) != type.getShape() ||
        value.isFloat != isa<FloatType>(type.getElementType()) ||
        static_cast<int64_t>(value.isFloat ? value.floats.size() : value.ints.size()) != type.getNumElements())
      return block.getParentOp()->emitOpError()
             << "takes " << argument.getType() << " as argument " << argument.getArgNumber()
             << ", but was given a value of another shape or class";
    HostTensor copy = value;
    finish(copy, type, context.options);
    values[argument] = std::move(copy);
  }
  llvm::DenseMap<Operation *, SmallVector<Value>> dying = lastUses(block);
  for (Operation &op : block) {
    SmallVector<const HostTensor *> operands;
    for (Value operand : op.getOperands())
      operands.push_back(&values.find(operand)->second);
    if (op.hasTrait<OpTrait::IsTerminator>()) {
      std::vector<HostTensor> returned;
      for (const HostTensor *operand : operands)
        returned.push_back(*operand);
      return returned;
    }
    std::vector<HostTensor> results;
    if (failed(run(op, operands, results, context)))
      return failure();
    for (auto [result, value] : llvm::zip_equal(op.getResults(), results))
      values[result] = std::move(value);
    if (auto dead = dying.find(&op); dead != dying.end())
      for (Value value : dead->second)
        values.erase(value);
  }
  return block.getParentOp()->emitOpError() << "has a block without a terminator";
}

FailureOr<std::vector<HostTensor>> moe::ir::interpret(ModuleOp module, llvm::StringRef name,
                                                      ArrayRef<HostTensor> inputs, InterpreterState &state,
                                                      const InterpreterOptions &options) {
  auto function = module.lookupSymbol<func::FuncOp>(name);
  if (!function)
    return module.emitError() << "the module has no function '" << name << "'";
  InterpreterContext context(state, options);
  return call(function, inputs, context);
}
