//===- BufferTable.cpp - Buffers and slots as attributes of a module --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/BufferTable.h"

#include "ir/Ops.h"

using namespace mlir;

namespace moe::ir {

std::string locationName(Location loc) {
  if (auto name = dyn_cast<NameLoc>(loc))
    return name.getName().str();
  if (auto fused = dyn_cast<FusedLoc>(loc))
    for (Location inner : fused.getLocations())
      if (std::string name = locationName(inner); !name.empty())
        return name;
  return "";
}

StringRef arenaName(ArenaClass arena) {
  static constexpr StringLiteral names[] = {"state", "gradients", "step", "staging"};
  return names[static_cast<int>(arena)];
}

static std::optional<ArenaClass> arenaOf(StringRef name) {
  for (ArenaClass arena : {ArenaClass::State, ArenaClass::Gradients, ArenaClass::Step, ArenaClass::Staging})
    if (arenaName(arena) == name)
      return arena;
  return std::nullopt;
}

FailureOr<BufferTable> BufferTable::read(ModuleOp module) {
  BufferTable table;
  auto array = module->getAttrOfType<ArrayAttr>(kBuffersAttr);
  if (!array) {
    module.emitError() << "has no attribute " << kBuffersAttr << "; run bufferize first";
    return failure();
  }
  for (Attribute attr : array) {
    auto entry = dyn_cast<DictionaryAttr>(attr);
    auto name = entry ? entry.getAs<StringAttr>("name") : StringAttr();
    auto arena = entry ? entry.getAs<StringAttr>("arena") : StringAttr();
    auto bytes = entry ? entry.getAs<IntegerAttr>("bytes") : IntegerAttr();
    std::optional<ArenaClass> kind = arena ? arenaOf(arena.getValue()) : std::nullopt;
    if (!name || !kind || !bytes) {
      module.emitError() << kBuffersAttr << " has a malformed entry " << attr;
      return failure();
    }
    BufferEntry buffer{name.str(), *kind, "", static_cast<uint64_t>(bytes.getInt()), std::nullopt};
    if (auto program = entry.getAs<StringAttr>("program"))
      buffer.program = program.str();
    if (auto offset = entry.getAs<IntegerAttr>("offset"))
      buffer.offset = static_cast<uint64_t>(offset.getInt());
    table.buffers.push_back(std::move(buffer));
  }
  return table;
}

void BufferTable::write(ModuleOp module) const {
  Builder b(module.getContext());
  SmallVector<Attribute> entries;
  for (const BufferEntry &buffer : buffers) {
    NamedAttrList entry;
    entry.append("name", b.getStringAttr(buffer.name));
    entry.append("arena", b.getStringAttr(arenaName(buffer.arena)));
    if (!buffer.program.empty())
      entry.append("program", b.getStringAttr(buffer.program));
    entry.append("bytes", b.getI64IntegerAttr(static_cast<int64_t>(buffer.bytes)));
    if (buffer.offset)
      entry.append("offset", b.getI64IntegerAttr(static_cast<int64_t>(*buffer.offset)));
    entries.push_back(entry.getDictionary(module.getContext()));
  }
  module->setAttr(kBuffersAttr, b.getArrayAttr(entries));
}

int64_t BufferTable::add(BufferEntry entry) {
  buffers.push_back(std::move(entry));
  return static_cast<int64_t>(buffers.size()) - 1;
}

FailureOr<llvm::DenseMap<Value, Slot>> readSlots(func::FuncOp function) {
  llvm::DenseMap<Value, Slot> slots;
  auto add = [&](Operation *op, Value value, Attribute attr, int64_t index) -> LogicalResult {
    auto array = dyn_cast_if_present<DenseI64ArrayAttr>(attr);
    if (!array || array.size() < 2 * (index + 1))
      return op->emitError() << "has no slot for its value #" << index << "; run bufferize first";
    slots[value] = {array[2 * index], array[2 * index + 1]};
    return success();
  };
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    if (failed(add(function, function.getArgument(i), function.getArgAttr(i, kSlotAttr), 0)))
      return failure();
  for (Operation &op : function.getBody().front())
    for (auto [i, result] : llvm::enumerate(op.getResults()))
      if (failed(add(&op, result, op.getAttr(kSlotsAttr), static_cast<int64_t>(i))))
        return failure();
  return slots;
}

FailureOr<llvm::DenseMap<int64_t, Lifetime>> lifetimes(func::FuncOp function, const BufferTable &table) {
  FailureOr<llvm::DenseMap<Value, Slot>> slots = readSlots(function);
  if (failed(slots))
    return failure();
  llvm::DenseMap<int64_t, Lifetime> result;
  int64_t position = 0;
  auto touch = [&](int64_t buffer) {
    if (buffer < 0 || buffer >= static_cast<int64_t>(table.buffers.size()) ||
        table.buffers[buffer].arena != ArenaClass::Step)
      return;
    Lifetime &lifetime = result[buffer];
    if (lifetime.first < 0)
      lifetime.first = position;
    lifetime.last = position;
  };
  for (BlockArgument argument : function.getArguments())
    touch(slots->lookup(argument).buffer);
  for (Operation &op : function.getBody().front()) {
    for (Value operand : op.getOperands())
      touch(slots->lookup(operand).buffer);
    for (Value value : op.getResults())
      touch(slots->lookup(value).buffer);
    if (auto scratch = op.getAttrOfType<IntegerAttr>(kScratchAttr))
      touch(scratch.getInt());
    ++position;
  }
  return result;
}

} // namespace moe::ir
