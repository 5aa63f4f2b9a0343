//===- Fuse.h - Order of operations under data and state dependencies -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_FUSE_H
#define MOEC_PASSES_FUSE_H

#include "mlir/IR/Block.h"

namespace moe::ir {

/// Puts the operations of a block into an order, as close to the present one as possible, in which every operation
/// comes after its operands, every write of a state after all readers of its old value, and every read of a state that
/// follows a write after that write. Fails with a diagnostic on a cycle.
llvm::LogicalResult sortByDependencies(mlir::Block &block);

} // namespace moe::ir

#endif // MOEC_PASSES_FUSE_H
