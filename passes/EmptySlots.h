//===- EmptySlots.h - More slots for the rows of experts ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_EMPTYSLOTS_H
#define MOEC_PASSES_EMPTYSLOTS_H

#include "ir/Ops.h"

namespace moe::ir {

/// Gives the rows [E,G,C,M] that `dispatch` fills, and all that is computed of them until `combine` reads them, `slots`
/// slots instead of C, which is less. Those at the end are empty: `route` knows nothing of them, no token is in them,
/// and what experts make of them nobody reads. Random numbers of the other rows stay as they were. Fails, and changes
/// nothing, where something else than an operation of rows by themselves reads the rows.
llvm::LogicalResult addEmptySlots(DispatchOp dispatch, int64_t slots, MeshAttr mesh);

} // namespace moe::ir

#endif // MOEC_PASSES_EMPTYSLOTS_H
