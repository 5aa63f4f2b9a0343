//===- Interpreter.cpp - Walks functions and blocks, keeps state ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Interpreter.h"
#include "ir/Ops.h"
#include "ir/Reshard.h"
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
    // Of a bucket that lies in parts, a rank may have any part of a member.
    if (state.getBucket() && storages.count(state.getBucket()->str()) &&
        !isSplitBucket(module.lookupSymbol<StateOp>(*state.getBucket()).getTensorType())) {
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

namespace {

/// Values of all ranks: one list of tensors per rank.
using RankTensors = std::vector<std::vector<HostTensor>>;
using Ranks = MutableArrayRef<InterpreterContext>;

FailureOr<RankTensors> runBlock(Block &block, const RankTensors &arguments, Ranks ranks);

FailureOr<RankTensors> call(func::FuncOp function, const RankTensors &arguments, Ranks ranks) {
  if (function.isDeclaration() || !function.getBody().hasOneBlock())
    return function.emitOpError() << "has no single block that the interpreter could run";
  std::vector<Operation *> &active = ranks.front().activeFunctions;
  if (llvm::is_contained(active, function.getOperation()))
    return function.emitOpError() << "calls itself";
  active.push_back(function);
  FailureOr<RankTensors> results = runBlock(function.getBody().front(), arguments, ranks);
  active.pop_back();
  return results;
}

/// Results of an operation between ranks, group by group.
LogicalResult runGroups(CollectiveOpInterface op, ArrayRef<SmallVector<const HostTensor *>> operands,
                        RankTensors &results) {
  MeshAttr mesh = MeshAttr::of(op->getParentOfType<ModuleOp>());
  if (!mesh || mesh.ranks() != static_cast<int64_t>(operands.size()))
    return op->emitOpError() << "runs on " << operands.size() << " ranks, which is not the mesh of its module";
  SmallVector<StringAttr> axes = op.groupAxes();
  for (ArrayRef<int64_t> group : mesh.groups(axes)) {
    SmallVector<SmallVector<const HostTensor *>> mine;
    RankTensors computed(group.size());
    for (auto [rank, tensors] : llvm::zip_equal(group, computed)) {
      mine.push_back(operands[rank]);
      for (Value result : op->getResults())
        tensors.emplace_back(typeOf(result));
    }
    if (failed(op.interpretGroup(mine, computed)))
      return failure();
    for (auto [rank, tensors] : llvm::zip_equal(group, computed))
      results[rank] = std::move(tensors);
  }
  return success();
}

LogicalResult run(Operation &op, ArrayRef<SmallVector<const HostTensor *>> operands, RankTensors &results,
                  Ranks ranks) {
  if (auto callOp = dyn_cast<func::CallOp>(op)) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(&op, callOp.getCalleeAttr());
    if (!callee)
      return callOp.emitOpError() << "calls an unknown function '" << callOp.getCallee() << "'";
    RankTensors arguments(ranks.size());
    for (auto [rank, tensors] : llvm::zip_equal(operands, arguments))
      for (const HostTensor *operand : rank)
        tensors.push_back(*operand);
    FailureOr<RankTensors> returned = call(callee, arguments, ranks);
    if (failed(returned))
      return failure();
    results = std::move(*returned);
    return success();
  }
  auto moeOp = dyn_cast<MoeOpInterface>(op);
  if (!moeOp)
    return op.emitOpError() << "has no reference semantics";
  auto collective = dyn_cast<CollectiveOpInterface>(op);
  if (collective && ranks.size() > 1) {
    if (failed(runGroups(collective, operands, results)))
      return failure();
  } else {
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      for (Value result : op.getResults())
        results[rank].emplace_back(typeOf(result));
      if (failed(moeOp.interpret(ranks[rank], operands[rank], results[rank])))
        return failure();
    }
  }
  for (std::vector<HostTensor> &tensors : results)
    for (auto [result, value] : llvm::zip_equal(op.getResults(), tensors))
      finish(value, typeOf(result), ranks.front().options);
  return success();
}

/// Values that no operation after the key uses.
llvm::DenseMap<Operation *, SmallVector<Value>> lastUses(Block &block) {
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

/// The values of a block's arguments, checked and rounded.
LogicalResult bindArguments(Block &block, ArrayRef<HostTensor> arguments, const InterpreterOptions &options,
                            std::vector<HostTensor> &bound) {
  if (arguments.size() != block.getNumArguments())
    return block.getParentOp()->emitOpError()
           << "takes " << block.getNumArguments() << " values, but was given " << arguments.size();
  for (auto [argument, value] : llvm::zip_equal(block.getArguments(), arguments)) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type || ArrayRef<int64_t>(value.shape) != type.getShape() ||
        value.isFloat != isa<FloatType>(type.getElementType()) ||
        static_cast<int64_t>(value.isFloat ? value.floats.size() : value.ints.size()) != type.getNumElements())
      return block.getParentOp()->emitOpError()
             << "takes " << argument.getType() << " as argument " << argument.getArgNumber()
             << ", but was given a value of another shape or class";
    bound.push_back(value);
    finish(bound.back(), type, options);
  }
  return success();
}

FailureOr<RankTensors> runBlock(Block &block, const RankTensors &arguments, Ranks ranks) {
  // Of each value, one tensor per rank.
  llvm::DenseMap<Value, std::vector<HostTensor>> values;
  for (auto [rank, context] : llvm::enumerate(ranks)) {
    std::vector<HostTensor> bound;
    if (failed(bindArguments(block, arguments[rank], context.options, bound)))
      return failure();
    for (auto [argument, value] : llvm::zip_equal(block.getArguments(), bound))
      values[argument].push_back(std::move(value));
  }
  llvm::DenseMap<Operation *, SmallVector<Value>> dying = lastUses(block);
  for (Operation &op : block) {
    SmallVector<SmallVector<const HostTensor *>> operands(ranks.size());
    for (Value operand : op.getOperands())
      for (auto [rank, value] : llvm::enumerate(values.find(operand)->second))
        operands[rank].push_back(&value);
    if (op.hasTrait<OpTrait::IsTerminator>()) {
      RankTensors returned(ranks.size());
      for (auto [rank, tensors] : llvm::zip_equal(operands, returned))
        for (const HostTensor *operand : rank)
          tensors.push_back(*operand);
      return returned;
    }
    RankTensors results(ranks.size());
    if (failed(run(op, operands, results, ranks)))
      return failure();
    for (std::vector<HostTensor> &tensors : results)
      for (auto [result, value] : llvm::zip_equal(op.getResults(), tensors))
        values[result].push_back(std::move(value));
    if (auto dead = dying.find(&op); dead != dying.end())
      for (Value value : dead->second)
        values.erase(value);
  }
  return block.getParentOp()->emitOpError() << "has a block without a terminator";
}

/// Of one rank, without a failure.
std::vector<HostTensor> only(RankTensors &&ranks) {
  return std::move(ranks.front());
}

} // namespace

FailureOr<std::vector<HostTensor>> moe::ir::interpretBlock(Block &block, ArrayRef<HostTensor> arguments,
                                                           InterpreterContext &context) {
  FailureOr<RankTensors> results = runBlock(block, {arguments.vec()}, context);
  if (failed(results))
    return failure();
  return only(std::move(*results));
}

FailureOr<std::vector<HostTensor>> moe::ir::interpret(ModuleOp module, llvm::StringRef name,
                                                      ArrayRef<HostTensor> inputs, InterpreterState &state,
                                                      const InterpreterOptions &options) {
  auto function = module.lookupSymbol<func::FuncOp>(name);
  if (!function)
    return module.emitError() << "the module has no function '" << name << "'";
  MeshAttr mesh = MeshAttr::of(module);
  InterpreterContext context(state, options, mesh ? mesh.coordinates(options.rank) : SmallVector<int64_t>());
  FailureOr<RankTensors> results = call(function, {inputs.vec()}, context);
  if (failed(results))
    return failure();
  return only(std::move(*results));
}

FailureOr<std::vector<std::vector<HostTensor>>> moe::ir::interpretOnMesh(ModuleOp module, llvm::StringRef name,
                                                                         ArrayRef<std::vector<HostTensor>> inputs,
                                                                         MutableArrayRef<InterpreterState> states,
                                                                         const InterpreterOptions &options) {
  auto function = module.lookupSymbol<func::FuncOp>(name);
  if (!function)
    return module.emitError() << "the module has no function '" << name << "'";
  MeshAttr mesh = MeshAttr::of(module);
  const int64_t ranks = mesh ? mesh.ranks() : 1;
  if (static_cast<int64_t>(inputs.size()) != ranks || static_cast<int64_t>(states.size()) != ranks)
    return module.emitError() << "the mesh has " << ranks << " ranks, but there are inputs for " << inputs.size()
                              << " and states for " << states.size();
  std::vector<InterpreterContext> contexts;
  contexts.reserve(static_cast<size_t>(ranks));
  for (int64_t rank = 0; rank < ranks; ++rank)
    contexts.emplace_back(states[rank], options, mesh ? mesh.coordinates(rank) : SmallVector<int64_t>());
  return call(function, inputs.vec(), contexts);
}
