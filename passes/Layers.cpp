//===- Layers.cpp - Which operations belong to which layer of a model ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Layers.h"

#include "passes/BufferTable.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace moe::ir {

namespace {

SmallVector<StringRef> components(StringRef name) {
  SmallVector<StringRef> parts;
  SplitString(name, parts, "./");
  return parts;
}

/// Index of the first component that is a number.
std::optional<size_t> numberIn(ArrayRef<StringRef> parts) {
  for (auto [i, part] : llvm::enumerate(parts))
    if (llvm::all_of(part, llvm::isDigit))
      return i;
  return std::nullopt;
}

/// The parts from `first` to `last`, both included.
std::string joined(ArrayRef<StringRef> parts, size_t first, size_t last) {
  return llvm::join(parts.slice(first, last - first + 1), ".");
}

/// The layer of each bucket, which is that of its members; empty if they are of none or of several.
llvm::StringMap<std::string> layersOfBuckets(ModuleOp module) {
  llvm::StringMap<std::string> layers;
  for (auto state : module.getOps<StateOp>()) {
    std::optional<StringRef> bucket = state.getBucket();
    if (!bucket)
      continue;
    std::string layer = layerPrefix(state.getSymName());
    auto [entry, isNew] = layers.try_emplace(*bucket, layer);
    if (!isNew && entry->second != layer)
      entry->second.clear();
  }
  return layers;
}

} // namespace

std::string layerPrefix(StringRef name) {
  SmallVector<StringRef> parts = components(name);
  std::optional<size_t> number = numberIn(parts);
  return number ? joined(parts, 0, *number) : "";
}

Value computedValue(Value value) {
  while (true) {
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      auto fused = dyn_cast<FusedOp>(argument.getOwner()->getParentOp());
      if (!fused)
        return value;
      value = fused.getInputs()[argument.getArgNumber()];
    } else if (auto fused = value.getDefiningOp<FusedOp>()) {
      value = fused.getBody().front().getTerminator()->getOperand(cast<OpResult>(value).getResultNumber());
    } else {
      return value;
    }
  }
}

Layers::Layers(Block &block, const llvm::DenseSet<Operation *> &forward) : block(block), forward(forward) {
  auto module = block.getParentOp()->getParentOfType<ModuleOp>();
  collectKeys(module);
  for (Operation &op : block) {
    if (!forward.contains(&op))
      continue;
    auto add = [&](Operation *inner) {
      Node node = describe(inner, module);
      nodeIndex[inner] = nodes.size();
      nodes.push_back(node);
    };
    if (auto fused = dyn_cast<FusedOp>(op))
      for (Operation &inner : fused.getBody().front().without_terminator())
        add(&inner);
    else
      add(&op);
  }
  rankLayers();
  findPlaces();
}

/// Every layer under all the names that end as its own does: exporters put other components before it.
void Layers::collectKeys(ModuleOp module) {
  llvm::StringMap<unsigned> known;
  const llvm::StringMap<std::string> buckets = layersOfBuckets(module);
  for (Operation &op : block) {
    auto read = dyn_cast<ReadOp>(op);
    if (!read || !forward.contains(&op))
      continue;
    StateKind kind = module.lookupSymbol<StateOp>(read.getState()).getKind();
    auto bucket = buckets.find(read.getState());
    std::string key = bucket == buckets.end() ? layerPrefix(read.getState()) : bucket->second;
    if ((kind != StateKind::Parameter && kind != StateKind::Frozen) || key.empty())
      continue;
    auto [entry, isNew] = known.try_emplace(key, keys.size());
    if (isNew)
      keys.push_back(key);
    keyOfRead[&op] = entry->second;
  }
  for (auto [number, key] : llvm::enumerate(keys)) {
    SmallVector<StringRef> parts = components(key);
    // A number alone says little: only a layer that is called just so.
    for (size_t first = 0; first == 0 || first + 1 < parts.size(); ++first) {
      auto [entry, isNew] = keyOfSuffix.try_emplace(joined(parts, first, parts.size() - 1), number);
      if (!isNew)
        entry->second = std::nullopt;
    }
  }
  // A full name wins over the endings of others.
  for (auto [number, key] : llvm::enumerate(keys))
    keyOfSuffix[key] = number;
}

std::optional<unsigned> Layers::keyOfLocation(Location loc) const {
  std::string name = locationName(loc);
  SmallVector<StringRef> parts = components(name);
  std::optional<size_t> number = numberIn(parts);
  if (!number)
    return std::nullopt;
  for (size_t first = 0; first <= *number; ++first)
    if (auto found = keyOfSuffix.find(joined(parts, first, *number)); found != keyOfSuffix.end())
      return found->second;
  return std::nullopt;
}

const Layers::Node *Layers::nodeOf(Value value) const {
  Operation *op = value.getDefiningOp();
  auto found = op ? nodeIndex.find(op) : nodeIndex.end();
  return found == nodeIndex.end() ? nullptr : &nodes[found->second];
}

Layers::Node Layers::describe(Operation *op, ModuleOp module) const {
  Node node;
  node.op = op;
  if (auto read = dyn_cast<ReadOp>(op)) {
    StateKind kind = module.lookupSymbol<StateOp>(read.getState()).getKind();
    node.constant = kind == StateKind::Parameter || kind == StateKind::Frozen;
    if (auto found = keyOfRead.find(op); found != keyOfRead.end())
      node.owner = found->second;
    node.foreign = node.constant && !node.owner;
    return node;
  }
  node.constant = true;
  for (Value operand : op->getOperands()) {
    const Node *from = nodeOf(computedValue(operand));
    if (!from || !from->constant) {
      node.constant = false;
      continue;
    }
    if (from->owner)
      node.owner = std::max(node.owner.value_or(0), *from->owner);
    node.foreign |= from->foreign;
  }
  if (!node.owner && !node.constant)
    node.owner = keyOfLocation(op->getLoc());
  if (node.owner)
    node.foreign = false;
  return node;
}

/// Layers are ordered by their last parts: the first part of a decoder's layer may come before the encoder.
void Layers::rankLayers() {
  rankOfKey.resize(keys.size());
  for (const Node &node : llvm::reverse(nodes))
    if (node.owner && !node.constant && !rankOfKey[*node.owner]) {
      rankOfKey[*node.owner] = layerNames.size();
      layerNames.push_back(keys[*node.owner]);
    }
  std::reverse(layerNames.begin(), layerNames.end());
  for (std::optional<unsigned> &rank : rankOfKey)
    if (rank)
      rank = layerNames.size() - 1 - *rank;
}

void Layers::findPlaces() {
  // The first layer that has a part after a value, without others in between.
  llvm::DenseMap<Value, unsigned> next;
  constexpr unsigned kNone = std::numeric_limits<unsigned>::max();
  auto nextOf = [&](Operation *op) {
    unsigned first = kNone;
    for (Value result : op->getResults())
      if (auto found = next.find(result); found != next.end())
        first = std::min(first, found->second);
    return first;
  };
  for (const Node &node : llvm::reverse(nodes)) {
    unsigned layer = node.owner && rankOfKey[*node.owner] ? *rankOfKey[*node.owner] : nextOf(node.op);
    for (Value operand : node.op->getOperands()) {
      auto [entry, isNew] = next.try_emplace(computedValue(operand), layer);
      entry->second = std::min(entry->second, layer);
    }
  }
  for (Node &node : nodes) {
    if (node.owner) {
      node.place = rankOfKey[*node.owner] ? 2 * *rankOfKey[*node.owner] + 1 : 0;
      continue;
    }
    for (Value operand : node.op->getOperands())
      if (const Node *from = nodeOf(computedValue(operand)); from && !from->constant)
        node.place = std::max(node.place, from->place);
    bool isInside = node.place % 2 == 1;
    if (isInside && node.foreign && nextOf(node.op) == kNone)
      ++node.place;
  }
}

std::optional<unsigned> Layers::layerOf(Value value) const {
  const Node *node = nodeOf(computedValue(value));
  if (!node || node->place % 2 == 0)
    return std::nullopt;
  return node->place / 2;
}

llvm::DenseSet<Value> Layers::boundaries() const {
  llvm::DenseSet<Value> stored, crossing;
  for (Operation *op : forward)
    for (Value result : op->getResults())
      stored.insert(computedValue(result));
  for (const Node &node : nodes)
    for (Value operand : node.op->getOperands()) {
      Value value = computedValue(operand);
      if (const Node *from = nodeOf(value); from && from->place % 2 == 1 && from->place != node.place)
        crossing.insert(value);
    }
  // What is at hand without computing any part of a layer.
  llvm::DenseSet<Value> atHand, kept;
  for (const Node &node : nodes) {
    // What parameters alone tell, such as a gathered bucket, is gathered again.
    bool isOutside = node.place % 2 == 0 && !node.constant;
    bool isMade = node.constant || (!node.owner && llvm::all_of(node.op->getOperands(), [&](Value operand) {
                    Value value = computedValue(operand);
                    return !nodeOf(value) || atHand.contains(value);
                  }));
    for (Value result : node.op->getResults()) {
      if (isOutside || (!isMade && crossing.contains(result) && stored.contains(result)))
        kept.insert(result);
      if (isMade || kept.contains(result))
        atHand.insert(result);
    }
  }
  llvm::DenseSet<Value> boundaries;
  for (Operation *op : forward)
    for (Value result : op->getResults())
      if (kept.contains(computedValue(result)))
        boundaries.insert(result);
  return boundaries;
}

} // namespace moe::ir
