//===- Bufferize.cpp - Values become buffers --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// Every value gets a slot: a byte offset in a buffer. Views and reads of states share the slot of what they show. A
// value that goes to a state is computed in the state's memory if every reader of the old value comes before (or the
// same kernel reads it element by element); otherwise `moe.write` copies. A result may take over the memory of an
// operand that dies with the operation. All else gets a buffer of its own.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BufferTable.h"
#include "passes/Passes.h"
#include "passes/StateAliases.h"
#include "passes/TrainingAttributes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_BUFFERIZE
#include "passes/Passes.h.inc"

namespace {

class FunctionBufferizer {
public:
  FunctionBufferizer(func::FuncOp function, BufferTable &table, const StateAliases &aliases,
                     const llvm::DenseMap<StringAttr, int64_t> &stateBuffers)
      : function(function), block(function.getBody().front()), table(table), aliases(aliases),
        stateBuffers(stateBuffers) {
    for (Operation &op : block)
      position[&op] = static_cast<int64_t>(position.size());
    for (Operation &op : llvm::reverse(block))
      for (Value operand : op.getOperands()) {
        auto &last = lastUse[base(operand)];
        last = std::max(last, position[&op]);
      }
  }

  LogicalResult run(const std::map<std::string, int64_t> &staging, bool staged) {
    Builder b(function.getContext());
    for (unsigned i = 0; i < function.getNumArguments(); ++i) {
      auto name = function.getArgAttrOfType<StringAttr>(i, kNameAttr);
      if (!name || !staging.count(name.str()))
        return function.emitError() << "argument #" << i << " has no moe.name";
      Slot slot{staging.at(name.str()), 0};
      // The micro-batch that the device counter names is copied out of staging.
      if (staged)
        slot = {newBuffer(name.str(), tensorBytes(typeOf(function.getArgument(i)))), 0};
      slots[function.getArgument(i)] = slot;
      function.setArgAttr(i, kSlotAttr, b.getDenseI64ArrayAttr({slot.buffer, slot.offset}));
    }
    for (Operation &op : block) {
      if (auto compute = dyn_cast<MoeOpInterface>(op))
        if (failed(assign(compute)))
          return failure();
      SmallVector<int64_t> flat;
      for (Value result : op.getResults())
        flat.append({slots.lookup(result).buffer, slots.lookup(result).offset});
      if (!flat.empty())
        op.setAttr(kSlotsAttr, b.getDenseI64ArrayAttr(flat));
    }
    return success();
  }

private:
  /// The value that a chain of views shows.
  Value base(Value value) {
    while (auto op = value.getDefiningOp<MoeOpInterface>()) {
      if (op.getBufferUse().kind != BufferUse::Kind::View)
        break;
      value = op->getOperand(0);
    }
    return value;
  }

  static bool isWholeView(MoeOpInterface op) {
    BufferUse use = op.getBufferUse();
    return use.kind == BufferUse::Kind::View && use.offsets.empty();
  }

  Slot stateSlot(FlatSymbolRefAttr state) {
    StateAliases::Place place = aliases.place(state);
    unsigned width = elementBytes(place.state.getTensorType().getElementType());
    return {stateBuffers.lookup(place.storage), place.offset * width};
  }

  int64_t newBuffer(std::string name, uint64_t bytes) {
    return table.add({std::move(name), ArenaClass::Step, function.getSymName().str(), bytes, std::nullopt});
  }

  LogicalResult assign(MoeOpInterface op) {
    BufferUse use = op.getBufferUse();
    switch (use.kind) {
    case BufferUse::Kind::View: {
      // A copy first: inserting into the map invalidates references into it.
      Slot shown = slots.lookup(op->getOperand(0));
      for (auto [i, result] : llvm::enumerate(op->getResults())) {
        const int64_t offset = use.offsets.empty() ? 0 : use.offsets[i];
        slots[result] = {shown.buffer, shown.offset + offset * elementBytes(typeOf(result).getElementType())};
      }
      return success();
    }
    case BufferUse::Kind::Read:
      slots[op->getResult(0)] = stateSlot(cast<ReadOp>(*op).getStateAttr());
      return success();
    case BufferUse::Kind::Write:
      if (slots.lookup(op->getOperand(0)) != stateSlot(cast<WriteOp>(*op).getStateAttr()))
        op->setAttr(kCopyAttr, UnitAttr::get(op->getContext()));
      return success();
    case BufferUse::Kind::Compute:
      break;
    }
    for (OpResult result : op->getResults()) {
      Slot slot;
      if (std::optional<Slot> state = donateToState(op, use, result))
        slot = *state;
      else if (std::optional<Slot> operand = takeOver(op, use, result))
        slot = *operand;
      else
        slot = {newBuffer(locationName(result.getLoc()), tensorBytes(typeOf(result))), 0};
      slots[result] = slot;
    }
    if (use.mustBeInPlace)
      for (auto [result, operand] : use.inPlace)
        if (slots.lookup(op->getResult(result)) != slots.lookup(op->getOperand(operand)))
          op->setAttr(kCopyAttr, UnitAttr::get(op->getContext()));
    if (auto bytes = op->getAttrOfType<IntegerAttr>(kScratchBytesAttr)) {
      int64_t buffer = newBuffer(locationName(op->getLoc()) + ".scratch", static_cast<uint64_t>(bytes.getInt()));
      op->setAttr(kScratchAttr, Builder(op->getContext()).getI64IntegerAttr(buffer));
    }
    return success();
  }

  /// The slot of the state that `result` is written to, if computing it there disturbs nobody.
  std::optional<Slot> donateToState(Operation *op, const BufferUse &use, OpResult result) {
    WriteOp write;
    SmallVector<Value> shown{result};
    while (!shown.empty()) {
      Value value = shown.pop_back_val();
      for (Operation *user : value.getUsers()) {
        if (auto found = dyn_cast<WriteOp>(user); found && !write)
          write = found;
        if (auto view = dyn_cast<MoeOpInterface>(user); view && isWholeView(view))
          shown.push_back(user->getResult(0));
      }
    }
    if (!write)
      return std::nullopt;
    Slot slot = stateSlot(write.getStateAttr());
    for (Operation &other : block) {
      if (auto read = dyn_cast<ReadOp>(other); read && aliases.overlap(read.getStateAttr(), write.getStateAttr())) {
        for (Operation *user : usersThroughViews(read.getResult()))
          if (position[user] > position[op] || (user == op && !mayShare(op, use, result, slot)))
            return std::nullopt;
      }
      if (auto earlier = dyn_cast<WriteOp>(other);
          earlier && earlier != write && aliases.overlap(earlier.getStateAttr(), write.getStateAttr()))
        return std::nullopt;
    }
    return slot;
  }

  /// May `op` write `slot` although it reads a state that overlaps it? Only through the very operand it may work in
  /// place on.
  bool mayShare(Operation *op, const BufferUse &use, OpResult result, Slot slot) {
    for (auto [i, operand] : llvm::enumerate(op->getOperands())) {
      Slot read = slots.lookup(operand);
      if (read.buffer != slot.buffer || !overlaps(read, operand, slot, result))
        continue;
      bool paired = llvm::any_of(use.inPlace,
                                 [&](auto pair) { return pair.first == result.getResultNumber() && pair.second == i; });
      if (!paired || read != slot)
        return false;
    }
    return true;
  }

  static bool overlaps(Slot a, Value aValue, Slot b, Value bValue) {
    return a.offset < b.offset + static_cast<int64_t>(tensorBytes(typeOf(bValue))) &&
           b.offset < a.offset + static_cast<int64_t>(tensorBytes(typeOf(aValue)));
  }

  SmallVector<Operation *> usersThroughViews(Value value) {
    SmallVector<Operation *> users;
    for (Operation *user : value.getUsers()) {
      users.push_back(user);
      if (auto view = dyn_cast<MoeOpInterface>(user); view && view.getBufferUse().kind == BufferUse::Kind::View)
        for (Value result : user->getResults())
          llvm::append_range(users, usersThroughViews(result));
    }
    return users;
  }

  /// The slot of an operand that dies here and may be overwritten element by element.
  std::optional<Slot> takeOver(Operation *op, const BufferUse &use, OpResult result) {
    for (auto [r, i] : use.inPlace) {
      if (r != result.getResultNumber())
        continue;
      Value operand = op->getOperand(i);
      Slot slot = slots.lookup(operand);
      const BufferEntry &buffer = table.buffers[slot.buffer];
      if (buffer.arena != ArenaClass::Step || slot.offset != 0 || buffer.bytes != tensorBytes(typeOf(result)))
        continue;
      if (lastUse[base(operand)] > position[op])
        continue;
      // Another operand or result may already use these bytes.
      bool taken = llvm::any_of(op->getResults(), [&](OpResult other) {
        return other.getResultNumber() < result.getResultNumber() && slots.lookup(other).buffer == slot.buffer;
      });
      for (auto [j, other] : llvm::enumerate(op->getOperands()))
        taken |= j != i && slots.lookup(other).buffer == slot.buffer;
      if (!taken)
        return slot;
    }
    return std::nullopt;
  }

  func::FuncOp function;
  Block &block;
  BufferTable &table;
  const StateAliases &aliases;
  const llvm::DenseMap<StringAttr, int64_t> &stateBuffers;
  llvm::DenseMap<Operation *, int64_t> position;
  llvm::DenseMap<Value, int64_t> lastUse;
  llvm::DenseMap<Value, Slot> slots;
};

struct BufferizePass : impl::BufferizeBase<BufferizePass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<TrainingAttributes> training = TrainingAttributes::read(module);
    if (failed(training))
      return signalPassFailure();
    BufferTable table;
    StateAliases aliases(module);
    llvm::DenseMap<StringAttr, int64_t> stateBuffers;
    for (StateOp state : module.getOps<StateOp>()) {
      if (state.getBucket())
        continue;
      ArenaClass arena = state.getKind() == StateKind::Gradient ? ArenaClass::Gradients : ArenaClass::State;
      stateBuffers[state.getSymNameAttr()] =
          table.add({state.getSymName().str(), arena, "", tensorBytes(state.getTensorType()), std::nullopt});
    }
    std::map<std::string, int64_t> staging;
    if (failed(addStaging(module, training->accumulate, table, staging)))
      return signalPassFailure();
    for (auto function : module.getOps<func::FuncOp>()) {
      bool staged = training->accumulate > 1 && function.getSymName() == "micro_step";
      if (failed(FunctionBufferizer(function, table, aliases, stateBuffers).run(staging, staged)))
        return signalPassFailure();
    }
    table.write(module);
  }

  /// Inputs of the same name are one buffer in all programs: micro-batches one after the other.
  LogicalResult addStaging(ModuleOp module, int64_t accumulate, BufferTable &table,
                           std::map<std::string, int64_t> &staging) {
    std::map<std::string, RankedTensorType> types;
    for (auto function : module.getOps<func::FuncOp>())
      for (unsigned i = 0; i < function.getNumArguments(); ++i) {
        auto name = function.getArgAttrOfType<StringAttr>(i, kNameAttr);
        auto type = cast<RankedTensorType>(function.getArgument(i).getType());
        if (!name)
          return function.emitError() << "argument #" << i << " has no moe.name";
        auto [found, isNew] = types.try_emplace(name.str(), type);
        if (!isNew && found->second != type)
          return function.emitError() << "input '" << name.getValue() << "' has shape " << type << " in @"
                                      << function.getSymName() << " and " << found->second
                                      << " elsewhere; different shapes per program are planned";
        if (isNew)
          staging[name.str()] = table.add({name.str(), ArenaClass::Staging, "",
                                           tensorBytes(type) * static_cast<uint64_t>(accumulate), std::nullopt});
      }
    return success();
  }
};

} // namespace
} // namespace moe::ir
