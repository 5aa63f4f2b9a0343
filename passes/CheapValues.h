//===- CheapValues.h - Tensors that are cheaper to compute again than to keep -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_CHEAPVALUES_H
#define MOEC_PASSES_CHEAPVALUES_H

#include "mlir/IR/Block.h"
#include "mlir/IR/Value.h"

#include "llvm/ADT/DenseSet.h"

namespace moe::ir {

struct CheapOptions {
  uint64_t minBytes = 0; ///< smaller tensors are not worth a kernel
  unsigned minSteps = 1; ///< operations between the last reader in the forward and the first one in the backward
  /// FLOPs of the products that read a copy, for each byte that the copy moves, if there are any. Below some ten they
  /// take no longer than the copy.
  unsigned minFlops = 0;
};

/// Results of operations of `forward` (forwardPart) that the backward reads, and that one kernel without sums computes
/// with the same bits from inputs, states and other values that the backward reads anyway: the bf16 copy of a weight,
/// GELU of a stored product, the product of a gate, a normalized row once its sums are known. None of them is needed to
/// compute another one, none needs to read more than four times its own bytes, and products that read it take longer.
///
/// And what is gathered of a state that ranks have in parts, since nobody shares it out to have it whole all the time:
/// it is gathered again, as fully sharded data parallelism does. The values above may be computed from it.
llvm::DenseSet<mlir::Value> cheapValues(mlir::Block &block, const llvm::DenseSet<mlir::Operation *> &forward,
                                        const CheapOptions &options);

} // namespace moe::ir

#endif // MOEC_PASSES_CHEAPVALUES_H
