//===- Reshard.h - From one layout to another ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_RESHARD_H
#define MOEC_IR_RESHARD_H

#include "ir/Ops.h"

namespace moe::ir {

/// Attribute of operations that a pass has put between ranks: the name of the pass, for messages.
inline constexpr llvm::StringLiteral kInsertedByAttr = "moe.inserted_by";

/// Type of a rank's part of `whole` (any layout of whole tensors, or none) under `layout`. Fails, at `loc` if there is
/// one, if a dimension does not divide.
mlir::FailureOr<mlir::RankedTensorType> partType(std::optional<mlir::Location> loc, mlir::RankedTensorType whole,
                                                 LayoutAttr layout, MeshAttr mesh);

/// Type of the whole tensor of which `part` is a rank's part; without a layout.
mlir::RankedTensorType wholeType(mlir::RankedTensorType part, MeshAttr mesh);

/// Estimated cost of `reshard`, in bytes sent; what is free costs a little.
double reshardCost(mlir::RankedTensorType part, LayoutAttr to, MeshAttr mesh);

/// `value` under the layout `to`, by the operations that send least; `value` itself if it lies so already. The
/// operations carry `insertedBy`. Fails at `value`'s location if a dimension does not divide.
mlir::FailureOr<mlir::Value> reshard(mlir::OpBuilder &builder, mlir::Value value, LayoutAttr to, MeshAttr mesh,
                                     llvm::StringRef insertedBy);

/// The whole of `value` on every rank; itself if it has no layout.
mlir::FailureOr<mlir::Value> everywhere(mlir::OpBuilder &builder, mlir::Value value, MeshAttr mesh,
                                        llvm::StringRef insertedBy);

/// Type of the gradient of a value on a mesh: the dual on axes of more than one rank. On others nothing is partial.
mlir::RankedTensorType gradientType(mlir::RankedTensorType type, MeshAttr mesh);

/// Whether an axis of the mesh splits dimension `dim`; none does without a layout.
bool isSplit(mlir::RankedTensorType type, int64_t dim);

/// Whether a bucket, [n] or [1,n] (see passes/Buckets.h), lies in parts of its elements.
bool isSplitBucket(mlir::RankedTensorType bucket);

/// Result types of `own_slots`.
struct OwnSlotsTypes {
  mlir::RankedTensorType choice; ///< of own_expert and own_slot
  mlir::RankedTensorType token;
};
mlir::FailureOr<OwnSlotsTypes> ownSlotsTypes(std::optional<mlir::Location> loc, mlir::RankedTensorType choice,
                                             mlir::RankedTensorType token, llvm::StringRef axis, int64_t ranks,
                                             int64_t dim);

} // namespace moe::ir

#endif // MOEC_IR_RESHARD_H
