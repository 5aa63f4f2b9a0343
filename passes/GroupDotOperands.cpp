//===- GroupDotOperands.cpp - Matrix products of operands as libraries take them --------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/GroupDotOperands.h"

#include "ir/Ops.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// One operand with the meaning of its dimensions.
struct Operand {
  Value value;
  SmallVector<int64_t> batch, free, contract;

  SmallVector<int64_t> order(bool contractFirst) const {
    SmallVector<int64_t> dims(batch);
    llvm::append_range(dims, contractFirst ? contract : free);
    llvm::append_range(dims, contractFirst ? free : contract);
    return dims;
  }

  /// Do batch, rows and columns lie behind each other? Dimensions of size one lie anywhere.
  bool isGrouped() const {
    auto lies = [&](SmallVector<int64_t> dims) {
      llvm::erase_if(dims, [&](int64_t d) { return typeOf(value).getDimSize(d) == 1; });
      return llvm::is_sorted(dims);
    };
    return lies(order(false)) || lies(order(true));
  }

  void group(OpBuilder &builder, Location loc) {
    value = TransposeOp::create(builder, loc, value, order(false));
    int64_t next = 0;
    for (SmallVector<int64_t> *dims : {&batch, &free, &contract})
      for (int64_t &dim : *dims)
        dim = next++;
  }
};

} // namespace

void groupDotOperands(ModuleOp module) {
  module.walk([](DotOp dot) {
    Operand lhs{dot.getLhs(), SmallVector<int64_t>(dot.getLhsBatch()), dot.lhsFree(),
                SmallVector<int64_t>(dot.getLhsContract())};
    Operand rhs{dot.getRhs(), SmallVector<int64_t>(dot.getRhsBatch()), dot.rhsFree(),
                SmallVector<int64_t>(dot.getRhsContract())};
    if (lhs.isGrouped() && rhs.isGrouped())
      return;
    OpBuilder builder(dot);
    for (Operand *operand : {&lhs, &rhs})
      if (!operand->isGrouped())
        operand->group(builder, dot.getLoc());
    Value grouped = DotOp::create(builder, dot.getLoc(), dot.getType(), lhs.value, rhs.value, lhs.batch, rhs.batch,
                                  lhs.contract, rhs.contract);
    dot.replaceAllUsesWith(grouped);
    dot.erase();
  });
}

} // namespace moe::ir
