//===- TrainingAttributes.cpp - What passes read of the recipe, and the states they agree on --------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/TrainingAttributes.h"

#include "ir/TensorBuilder.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Reads entries of a dictionary attribute, remembering whether one had the wrong kind.
class DictionaryReader {
public:
  DictionaryReader(Operation *op, DictionaryAttr dictionary, StringRef where)
      : op(op), dict(dictionary), where(where) {}

  void get(StringRef key, std::string &into) {
    if (auto value = find<StringAttr>(key, "a string"))
      into = value.str();
  }
  void get(StringRef key, double &into) {
    if (auto value = find<FloatAttr>(key, "a number"))
      into = value.getValueAsDouble();
  }
  void get(StringRef key, int64_t &into) {
    if (auto value = find<IntegerAttr>(key, "an integer"))
      into = value.getInt();
  }
  DictionaryAttr dictionary(StringRef key) { return find<DictionaryAttr>(key, "a dictionary"); }
  ArrayAttr array(StringRef key) { return find<ArrayAttr>(key, "an array"); }

  bool ok = true;

private:
  template <typename AttrT> AttrT find(StringRef key, StringRef expected) {
    Attribute value = dict ? dict.get(key) : Attribute();
    if (!value)
      return {};
    auto typed = dyn_cast<AttrT>(value);
    if (!typed) {
      op->emitError() << where << "." << key << " must be " << expected << ", got " << value;
      ok = false;
    }
    return typed;
  }

  Operation *op;
  DictionaryAttr dict;
  StringRef where;
};

} // namespace

FailureOr<TrainingAttributes> TrainingAttributes::read(ModuleOp module) {
  TrainingAttributes result;
  DictionaryReader reader(module, module->getAttrOfType<DictionaryAttr>(kTrainingAttr), kTrainingAttr);
  reader.get("loss", result.loss);
  reader.get("accumulate", result.accumulate);
  reader.get("seed", result.seed);
  reader.get("clip_norm", result.clipNorm);
  DictionaryReader optimizer(module, reader.dictionary("optimizer"), "moe.training.optimizer");
  optimizer.get("name", result.optimizer.name);
  optimizer.get("lr", result.optimizer.lr);
  optimizer.get("eps", result.optimizer.eps);
  optimizer.get("weight_decay", result.optimizer.weightDecay);
  optimizer.get("momentum", result.optimizer.momentum);
  if (ArrayAttr betas = optimizer.array("betas"); betas && betas.size() == 2) {
    if (auto first = dyn_cast<FloatAttr>(betas[0]))
      result.optimizer.beta1 = first.getValueAsDouble();
    if (auto second = dyn_cast<FloatAttr>(betas[1]))
      result.optimizer.beta2 = second.getValueAsDouble();
  }
  DictionaryReader schedule(module, reader.dictionary("schedule"), "moe.training.schedule");
  schedule.get("name", result.schedule.name);
  schedule.get("warmup_updates", result.schedule.warmupUpdates);
  schedule.get("total_updates", result.schedule.totalUpdates);
  schedule.get("power", result.schedule.power);
  schedule.get("end_lr", result.schedule.endLr);
  schedule.get("decay_updates", result.schedule.decayUpdates);
  schedule.get("decay", result.schedule.decay);
  if (!reader.ok || !optimizer.ok || !schedule.ok)
    return failure();
  if (result.accumulate < 1) {
    module.emitError() << "accumulate must be at least 1, got " << result.accumulate;
    return failure();
  }
  return result;
}

std::optional<unsigned> findResult(func::FuncOp function, StringRef name) {
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    if (auto attr = function.getResultAttrOfType<StringAttr>(i, kNameAttr); attr && attr.getValue() == name)
      return i;
  return std::nullopt;
}

std::string resultNames(func::FuncOp function) {
  SmallVector<StringRef> names;
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    if (auto attr = function.getResultAttrOfType<StringAttr>(i, kNameAttr))
      names.push_back(attr.getValue());
  return llvm::join(names, ", ");
}

Location gradientLocation(Location loc) {
  auto name = dyn_cast<NameLoc>(loc);
  if (!name)
    return NameLoc::get(StringAttr::get(loc.getContext(), "grad"), loc);
  if (name.getName().getValue().ends_with(".grad"))
    return loc;
  return NameLoc::get(StringAttr::get(loc.getContext(), name.getName().getValue() + ".grad"));
}

StateOp StateWriter::declare(StringRef name, RankedTensorType type, StateKind kind, double initial) {
  if (auto state = module.lookupSymbol<StateOp>(name))
    return state;
  // Behind the states that are there already.
  Operation *last = nullptr;
  for (StateOp state : module.getOps<StateOp>())
    last = state;
  OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
  if (last)
    builder.setInsertionPointAfter(last);
  return StateOp::create(builder, NameLoc::get(builder.getStringAttr(name)), builder.getStringAttr(name),
                         TypeAttr::get(type), StateKindAttr::get(context, kind), builder.getF64FloatAttr(initial),
                         FlatSymbolRefAttr(), FlatSymbolRefAttr(), IntegerAttr(), UnitAttr(), ArrayAttr());
}

Value StateWriter::read(OpBuilder &builder, Location loc, StringRef name) {
  return ReadOp::create(builder, loc, module.lookupSymbol<StateOp>(name).getTensorType(),
                        FlatSymbolRefAttr::get(context, name));
}

void StateWriter::write(OpBuilder &builder, Location loc, StringRef name, Value value) {
  WriteOp::create(builder, loc, FlatSymbolRefAttr::get(context, name), value);
}

RankedTensorType StateWriter::progressType(RankedTensorType like) {
  return wholeOrSplit(RankedTensorType::get({2}, IntegerType::get(context, 64), like.getEncoding()));
}

} // namespace moe::ir
