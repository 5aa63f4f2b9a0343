//===- Accesses.h - What operations with slots do to memory -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_ACCESSES_H
#define MOEC_PASSES_ACCESSES_H

#include "passes/BufferTable.h"
#include "passes/StateAliases.h"

#include <vector>

namespace moe::ir {

/// Bytes [begin, end) of a buffer that an operation reads, or writes.
struct Access {
  int64_t buffer = -1;
  int64_t begin = 0, end = 0;
  bool writes = false;
};

/// Whether two operations must keep their order: one writes what the other one touches.
bool conflict(llvm::ArrayRef<Access> a, llvm::ArrayRef<Access> b);

/// Finds accesses in the slots of a module that has passed `bufferize`.
class AccessFinder {
public:
  /// All three must outlive this; `slots` are those of the function of the operations.
  AccessFinder(const BufferTable &table, const StateAliases &aliases, const llvm::DenseMap<mlir::Value, Slot> &slots);

  /// Operations that are steps read their operands and write their results and scratch. `moe.read` reads the state and
  /// `moe.write` writes it, even if no step does; other views do nothing themselves, nor does `moe.done`. The
  /// terminator reads what the program returns.
  std::vector<Access> accesses(mlir::Operation *op) const;
  /// Buffers of the step arena that `op` keeps alive (see `lifetimes`), each once.
  llvm::SmallVector<int64_t> stepBuffers(mlir::Operation *op) const;

  Slot slot(mlir::Value value) const { return slots.lookup(value); }

private:
  Access access(mlir::Value value, bool writes) const;

  const BufferTable &table;
  const StateAliases &aliases;
  const llvm::DenseMap<mlir::Value, Slot> &slots;
  llvm::StringMap<int64_t> stateBuffers;
};

} // namespace moe::ir

#endif // MOEC_PASSES_ACCESSES_H
