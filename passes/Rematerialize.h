//===- Rematerialize.h - Computing values of the forward again in the backward ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_REMATERIALIZE_H
#define MOEC_PASSES_REMATERIALIZE_H

#include "mlir/IR/Block.h"
#include "mlir/IR/Value.h"

#include "llvm/ADT/DenseSet.h"

namespace moe::ir {

/// On an operation that computes again what another one has computed.
inline constexpr llvm::StringLiteral kRecomputedAttr = "moe.recomputed";

/// On a module whose micro-step computes values again: a dictionary of `policy`, `operations` and `flops` (those
/// computed again), `kept_bytes` and `kept_bytes_without` (what the backward reads of the forward, with and without the
/// policy).
inline constexpr llvm::StringLiteral kRecomputeAttr = "moe.recompute";

/// The operations of a block of forward and backward that belong to the forward: what sums and metrics are made of, and
/// what else is computed from such values without the name of a gradient. Closed under operands.
llvm::DenseSet<mlir::Operation *> forwardPart(mlir::Block &block);

/// Bytes of the tensors that operations of `forward` compute and others read; states and inputs do not count.
uint64_t bytesKept(mlir::Block &block, const llvm::DenseSet<mlir::Operation *> &forward);

/// The tensor that `value` shows: what views, which have no memory of their own, are made of.
mlir::Value viewedValue(mlir::Value value);

/// What `rematerialize` did: operations that are computed again, and their floating-point operations per execution.
struct Rematerialized {
  int64_t operations = 0;
  double flops = 0;
};

/// Lets the backward read, of all values of `forward`, only those in `keep`, inputs and states. Others are computed
/// again from them by copies of the operations, each once, right before the first operation of the backward that needs
/// them.
///
/// Copies have the same bits as the originals: a copy is the same operation, or a part of a region of pointwise
/// operations, which rounds nothing but what it stores. Where a region that also sums over rows is to be computed in
/// part, the sums are kept, too (one number per row); where that would not do, because a value in `keep` is rounded
/// when it is stored, what the region computes from it is kept as well.
///
/// Copies have the attribute `moe.recomputed` and the location "NAME.again" of the original's NAME; random numbers
/// repeat, since their keys are attributes. The operations of the block must be fused (phase `fuse`); any set of
/// results of operations of `forward` may be kept.
Rematerialized rematerialize(mlir::Block &block, llvm::DenseSet<mlir::Operation *> forward,
                             llvm::DenseSet<mlir::Value> keep);

} // namespace moe::ir

#endif // MOEC_PASSES_REMATERIALIZE_H
