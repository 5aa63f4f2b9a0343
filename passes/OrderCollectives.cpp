//===- OrderCollectives.cpp - Gathers late, reductions early ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// Narrow copies of parameters stand at the top of a program and their adjoints at its end, with the collectives that
// belong to them. Both are moved to where little has to be kept for them. Values are immutable, so that only reads and
// writes of states limit what may move.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/Product.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Passes.h"
#include "passes/StateAliases.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_ORDERCOLLECTIVES
#include "passes/Passes.h.inc"

namespace {

bool communicates(Operation *op) {
  auto collective = dyn_cast<CollectiveOpInterface>(op);
  return collective && collective.communicates();
}

class FunctionOrder {
public:
  FunctionOrder(func::FuncOp function, const StateAliases &aliases)
      : block(function.getBody().front()), aliases(aliases) {
    for (Operation &op : block) {
      if (auto read = dyn_cast<ReadOp>(op))
        reads.push_back(read);
      else if (auto write = dyn_cast<WriteOp>(op))
        writes.push_back(write);
    }
  }

  /// Whatever is computed from parameters alone, with a collective among it, moves down to its first reader.
  void sinkGathers() {
    llvm::DenseSet<Operation *> ofParameters, gathered, sunk;
    for (Operation &op : block.without_terminator()) {
      const bool isParameter = isa<ReadOp>(op) && !isWritten(cast<ReadOp>(op));
      const bool computed =
          computes(&op) && op.getNumOperands() > 0 &&
          llvm::all_of(op.getOperands(), [&](Value value) { return ofParameters.contains(value.getDefiningOp()); });
      if (!isParameter && !computed)
        continue;
      ofParameters.insert(&op);
      if (communicates(&op) ||
          llvm::any_of(op.getOperands(), [&](Value value) { return gathered.contains(value.getDefiningOp()); }))
        gathered.insert(&op);
    }
    SmallVector<Operation *> order;
    for (Operation &op : llvm::reverse(block.without_terminator()))
      order.push_back(&op);
    for (Operation *op : order) {
      const bool onlyForSunk = ofParameters.contains(op) && !op->use_empty() &&
                               llvm::all_of(op->getUsers(), [&](Operation *user) { return sunk.contains(user); });
      if (op->use_empty() || (!gathered.contains(op) && !onlyForSunk))
        continue;
      sunk.insert(op);
      Operation *first = nullptr;
      for (Operation *user : op->getUsers())
        if (!first || user->isBeforeInBlock(first))
          first = user;
      op->moveBefore(first);
    }
  }

  /// Reductions whose results go to gradients alone, what joins their operands and what takes their results there, move
  /// up to the last of their operands.
  void raiseReductions() {
    llvm::DenseSet<Operation *> closing, raised;
    for (Operation &op : llvm::reverse(block.without_terminator()))
      if (isGradient(&op) || (handsOn(&op) && !op.use_empty() &&
                              llvm::all_of(op.getUsers(), [&](Operation *user) { return closing.contains(user); })))
        closing.insert(&op);
    for (Operation &op : block.without_terminator())
      if (closing.contains(&op) && (isReduction(&op) || llvm::any_of(op.getOperands(), [&](Value value) {
                                      return raised.contains(value.getDefiningOp());
                                    })))
        raised.insert(&op);
    for (Operation &op : llvm::reverse(block.without_terminator()))
      if (closing.contains(&op) && !op.use_empty() &&
          llvm::all_of(op.getUsers(), [&](Operation *user) { return raised.contains(user); }))
        raised.insert(&op);
    SmallVector<Operation *> order;
    for (Operation &op : block.without_terminator())
      if (raised.contains(&op))
        order.push_back(&op);
    for (Operation *op : order)
      raise(op);
  }

private:
  bool isGradient(Operation *op) const {
    auto write = dyn_cast<WriteOp>(op);
    if (!write)
      return false;
    StateOp state = aliases.place(write.getStateAttr()).state;
    return state.getKind() == StateKind::Gradient;
  }

  static bool computes(Operation *op) { return !isa<ReadOp, WriteOp>(op); }

  static bool isReduction(Operation *op) { return isa<ReduceScatterOp, AllReduceOp>(op) && communicates(op); }

  /// What brings a gradient into another form or adds it to what is there, as opposed to what computes it.
  static bool handsOn(Operation *op) {
    if (isReduction(op) || isa<BucketJoinOp>(op))
      return true;
    if (auto fused = dyn_cast<FusedOp>(op); fused && codegen::isProduct(fused))
      return false;
    auto compute = dyn_cast<MoeOpInterface>(op);
    const bool isView = compute && compute.getBufferUse().kind == BufferUse::Kind::View;
    return (isView || isa<FusedOp>(op)) && llvm::count_if(op->getOperands(), [](Value operand) {
                                             return !isa_and_present<ReadOp>(operand.getDefiningOp());
                                           }) == 1;
  }

  bool isWritten(ReadOp read) const {
    return llvm::any_of(writes,
                        [&](WriteOp write) { return aliases.overlap(write.getStateAttr(), read.getStateAttr()); });
  }

  /// The old value of what `op` adds to may be read later: right before it, unless a write stands before the read.
  bool mayFollow(ReadOp read, Operation *op) const {
    return read->hasOneUse() && *read->getUsers().begin() == op && llvm::none_of(writes, [&](WriteOp write) {
             return write->isBeforeInBlock(read) && aliases.overlap(write.getStateAttr(), read.getStateAttr());
           });
  }

  void raise(Operation *op) {
    SmallVector<ReadOp> follow;
    Operation *last = nullptr;
    for (Value operand : op->getOperands()) {
      Operation *producer = operand.getDefiningOp();
      if (auto read = dyn_cast_if_present<ReadOp>(producer); read && mayFollow(read, op))
        follow.push_back(read);
      else if (producer && (!last || last->isBeforeInBlock(producer)))
        last = producer;
    }
    if (!last)
      return;
    // A write must stay behind whoever reads the state, or what shows it, before.
    if (auto write = dyn_cast<WriteOp>(op))
      for (ReadOp read : reads)
        if (aliases.overlap(write.getStateAttr(), read.getStateAttr()) && read->isBeforeInBlock(write))
          last = later(last, lastReader(read, write));
    if (auto write = dyn_cast<WriteOp>(op))
      for (WriteOp other : writes)
        if (other != write && aliases.overlap(write.getStateAttr(), other.getStateAttr()) &&
            other->isBeforeInBlock(write))
          last = later(last, other);
    op->moveAfter(last);
    for (ReadOp read : follow)
      read->moveBefore(op);
  }

  static Operation *later(Operation *a, Operation *b) { return a->isBeforeInBlock(b) ? b : a; }

  /// The last operation before `end` that reads `value` or a view of it.
  static Operation *lastReader(Operation *value, Operation *end) {
    Operation *last = value;
    for (Operation *user : value->getUsers()) {
      if (user == end || !user->isBeforeInBlock(end))
        continue;
      last = later(last, user);
      if (auto view = dyn_cast<MoeOpInterface>(user); view && view.getBufferUse().kind == BufferUse::Kind::View)
        last = later(last, lastReader(user, end));
    }
    return last;
  }

  Block &block;
  const StateAliases &aliases;
  SmallVector<ReadOp> reads;
  SmallVector<WriteOp> writes;
};

struct OrderCollectivesPass : impl::OrderCollectivesBase<OrderCollectivesPass> {
  void runOnOperation() override {
    StateAliases aliases(getOperation());
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      FunctionOrder order(function, aliases);
      order.sinkGathers();
      order.raiseReductions();
    }
  }
};

} // namespace
} // namespace moe::ir
