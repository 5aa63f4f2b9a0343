//===- BindPlaces.h - Where a rank's part lies, as data -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_BINDPLACES_H
#define MOEC_PASSES_BINDPLACES_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::ir {

/// Gives operations that depend on the place of their part (attribute `moe.layout`) this place as data, and takes the
/// attribute away; kernels then know of no mesh.
///
/// Random numbers are counted through the whole tensor and through micro-batches. A part that is contiguous in the
/// whole is what a tensor of its size would be for micro-batch m n + r, of n parts the r-th: so much becomes of the
/// operand `rng`. An iota starts at the first index of its part. Fails at operations whose part is not contiguous.
llvm::LogicalResult bindPlaces(mlir::ModuleOp module);

} // namespace moe::ir

#endif // MOEC_PASSES_BINDPLACES_H
