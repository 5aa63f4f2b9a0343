//===- StateAliases.h - Which states share memory ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_STATEALIASES_H
#define MOEC_PASSES_STATEALIASES_H

#include "ir/Ops.h"
#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/DenseMap.h"

namespace moe::ir {

/// Answers by name; members of a bucket lie inside it.
class StateAliases {
public:
  explicit StateAliases(mlir::ModuleOp module);

  /// A stretch of elements of a storage.
  struct Place {
    StateOp state;
    mlir::StringAttr storage;
    int64_t offset = 0, size = 0;
  };

  const Place &place(mlir::FlatSymbolRefAttr state) const { return places.at(state.getAttr()); }
  /// The bucket that holds the state, or the state itself.
  mlir::StringAttr storage(mlir::FlatSymbolRefAttr state) const { return place(state).storage; }
  bool overlap(mlir::FlatSymbolRefAttr a, mlir::FlatSymbolRefAttr b) const;

private:
  llvm::DenseMap<mlir::StringAttr, Place> places;
};

} // namespace moe::ir

#endif // MOEC_PASSES_STATEALIASES_H
