//===- DependencyOrder.cpp - Order of operations under data and state dependencies ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "passes/Fuse.h"
#include "passes/StateAliases.h"

#include <queue>

using namespace mlir;

namespace moe::ir {

LogicalResult sortByDependencies(Block &block) {
  SmallVector<Operation *> order;
  llvm::DenseMap<Operation *, unsigned> index;
  for (Operation &op : block) {
    index[&op] = order.size();
    order.push_back(&op);
  }
  if (order.empty())
    return success();
  std::vector<SmallVector<unsigned>> successors(order.size());
  std::vector<unsigned> waiting(order.size(), 0);
  auto edge = [&](Operation *from, Operation *to) {
    if (from == to)
      return;
    successors[index[from]].push_back(index[to]);
    ++waiting[index[to]];
  };
  for (Operation *op : order)
    for (Value operand : op->getOperands())
      if (Operation *producer = operand.getDefiningOp(); producer && producer->getBlock() == &block)
        edge(producer, op);

  // State is touched in the order of the program: a write waits for all readers of what it overwrites.
  StateAliases aliases(block.getParentOp()->getParentOfType<ModuleOp>());
  llvm::MapVector<StringAttr, SmallVector<Operation *>> touched;
  for (Operation *op : order) {
    if (auto read = dyn_cast<ReadOp>(op)) {
      for (Operation *before : touched[aliases.storage(read.getStateAttr())])
        if (auto write = dyn_cast<WriteOp>(before); write && aliases.overlap(write.getStateAttr(), read.getStateAttr()))
          edge(write, op);
      touched[aliases.storage(read.getStateAttr())].push_back(op);
    } else if (auto write = dyn_cast<WriteOp>(op)) {
      for (Operation *before : touched[aliases.storage(write.getStateAttr())]) {
        if (auto read = dyn_cast<ReadOp>(before); read && aliases.overlap(read.getStateAttr(), write.getStateAttr())) {
          edge(read, op);
          // Views of the read show the state's own memory, too.
          SmallVector<Operation *> users(read->getUsers());
          while (!users.empty()) {
            Operation *user = users.pop_back_val();
            edge(user, op);
            if (auto view = dyn_cast<MoeOpInterface>(user); view && view.getBufferUse().kind == BufferUse::Kind::View)
              llvm::append_range(users, user->getUsers());
          }
        } else if (auto earlier = dyn_cast<WriteOp>(before);
                   earlier && aliases.overlap(earlier.getStateAttr(), write.getStateAttr())) {
          edge(earlier, op);
        }
      }
      touched[aliases.storage(write.getStateAttr())].push_back(op);
    }
  }
  for (unsigned i = 0; i + 1 < order.size(); ++i)
    edge(order[i], order.back());

  std::priority_queue<unsigned, std::vector<unsigned>, std::greater<>> ready;
  for (unsigned i = 0; i < order.size(); ++i)
    if (waiting[i] == 0)
      ready.push(i);
  SmallVector<Operation *> sorted;
  while (!ready.empty()) {
    unsigned next = ready.top();
    ready.pop();
    sorted.push_back(order[next]);
    for (unsigned successor : successors[next])
      if (--waiting[successor] == 0)
        ready.push(successor);
  }
  if (sorted.size() != order.size()) {
    for (unsigned i = 0; i < order.size(); ++i)
      if (waiting[i] != 0)
        return order[i]->emitError("is part of a cycle of dependencies");
  }
  for (Operation *op : sorted)
    op->moveBefore(&block, block.end());
  return success();
}

} // namespace moe::ir
