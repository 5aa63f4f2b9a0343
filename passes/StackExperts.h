//===- StackExperts.h - One parameter of all experts instead of one for each --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_STACKEXPERTS_H
#define MOEC_PASSES_STACKEXPERTS_H

#include "ir/Ops.h"
#include "mlir/IR/BuiltinOps.h"

namespace moe::ir {

/// Replaces joins of one parameter for each expert by one state with a dimension of experts, which ranks can have a
/// part of; its `members` keep the names and first values. `joins` are concatenations along dimension 0 of tensors
/// [1,...]; on the way to them parameters may be cast, transposed and reshaped, all alike. Left alone are joins of
/// anything else, of parameters with other uses, and of states in parts. Returns the stacked states.
llvm::SmallVector<StateOp> stackExperts(mlir::ModuleOp module, llvm::ArrayRef<ConcatOp> joins);

} // namespace moe::ir

#endif // MOEC_PASSES_STACKEXPERTS_H
