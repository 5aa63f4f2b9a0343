//===- Accesses.cpp - What operations with slots do to memory ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Accesses.h"

#include "ir/Ops.h"

using namespace mlir;

namespace moe::ir {

bool conflict(llvm::ArrayRef<Access> a, llvm::ArrayRef<Access> b) {
  for (const Access &x : a)
    for (const Access &y : b)
      if ((x.writes || y.writes) && x.buffer == y.buffer && x.begin < y.end && y.begin < x.end)
        return true;
  return false;
}

AccessFinder::AccessFinder(const BufferTable &table, const StateAliases &aliases,
                           const llvm::DenseMap<Value, Slot> &slots)
    : table(table), aliases(aliases), slots(slots) {
  for (auto [i, buffer] : llvm::enumerate(table.buffers))
    if (buffer.arena == ArenaClass::State || buffer.arena == ArenaClass::Gradients)
      stateBuffers[buffer.name] = static_cast<int64_t>(i);
}

Access AccessFinder::access(Value value, bool writes) const {
  const Slot slot = slots.lookup(value);
  return {slot.buffer, slot.offset, slot.offset + static_cast<int64_t>(tensorBytes(typeOf(value))), writes};
}

std::vector<Access> AccessFinder::accesses(Operation *op) const {
  std::vector<Access> found;
  found.reserve(op->getNumOperands() + op->getNumResults() + 1);
  auto use = dyn_cast<MoeOpInterface>(op);
  switch (use ? use.getBufferUse().kind : BufferUse::Kind::Compute) {
  case BufferUse::Kind::View:
    return found;
  case BufferUse::Kind::Read:
    found.push_back(access(op->getResult(0), false));
    return found;
  case BufferUse::Kind::Write: {
    auto write = cast<WriteOp>(op);
    StateAliases::Place place = aliases.place(write.getStateAttr());
    Access value = access(write.getValue(), false);
    const int64_t begin = place.offset * elementBytes(place.state.getTensorType().getElementType());
    found.push_back({stateBuffers.lookup(place.storage.getValue()), begin, begin + value.end - value.begin, true});
    if (op->hasAttr(kCopyAttr))
      found.push_back(value);
    return found;
  }
  case BufferUse::Kind::Compute:
    break;
  }
  for (Value operand : op->getOperands())
    found.push_back(access(operand, false));
  for (Value result : op->getResults())
    found.push_back(access(result, true));
  if (auto scratch = op->getAttrOfType<IntegerAttr>(kScratchAttr))
    found.push_back({scratch.getInt(), 0, static_cast<int64_t>(table.buffers[scratch.getInt()].bytes), true});
  return found;
}

llvm::SmallVector<int64_t> AccessFinder::stepBuffers(Operation *op) const {
  llvm::SmallVector<int64_t> buffers;
  auto add = [&](int64_t buffer) {
    if (buffer >= 0 && table.buffers[buffer].arena == ArenaClass::Step && !llvm::is_contained(buffers, buffer))
      buffers.push_back(buffer);
  };
  for (Value operand : op->getOperands())
    add(slots.lookup(operand).buffer);
  for (Value result : op->getResults())
    add(slots.lookup(result).buffer);
  if (auto scratch = op->getAttrOfType<IntegerAttr>(kScratchAttr))
    add(scratch.getInt());
  return buffers;
}

} // namespace moe::ir
