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
/// Random numbers get the linear index of the part's first element and the shape of the whole, an iota the first index
/// of its part, library attention a micro-batch number. Fails where the latter cannot say it.
llvm::LogicalResult bindPlaces(mlir::ModuleOp module);

} // namespace moe::ir

#endif // MOEC_PASSES_BINDPLACES_H
