//===- Buckets.h - Flat state: many small tensors as one --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_BUCKETS_H
#define MOEC_PASSES_BUCKETS_H

#include "ir/Ops.h"
#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace moe::ir {

/// Parameters of one layer, kind and layout, concatenated; every member starts at a multiple of 64 bytes, padding stays
/// zero. Parameters that lie in parts (experts) make a bucket [1, n] whose first dimension is split likewise: the
/// buckets of their parts, one beside the other; others make a bucket [n].
struct Bucket {
  std::string name;               ///< state of the parameters
  std::string gradient;           ///< state of the gradients
  std::vector<std::string> slots; ///< states of the optimizer slots, in the order asked for
  mlir::RankedTensorType type;    ///< of the parameters
  mlir::RankedTensorType work;    ///< of the slots: under FSDP split over all axes on which parameters are replicated
};

/// Members of a bucket and where they start, in elements.
struct BucketMembers {
  llvm::SmallVector<StateOp> states;
  llvm::SmallVector<int64_t> offsets;
  mlir::RankedTensorType type; ///< of the whole bucket, on all ranks that have the same of it
};

/// All trained parameters in buckets: one per layer, experts apart from dense parameters. With `split` their sizes
/// divide among the ranks of the mesh.
std::vector<BucketMembers> groupParameters(mlir::ModuleOp module, bool split);

/// `bucket` split over all axes on which it is replicated.
mlir::RankedTensorType splitBucket(mlir::RankedTensorType bucket, MeshAttr mesh);

/// Makes `bucket` a state and its members views of it.
void declareBucket(mlir::ModuleOp module, llvm::StringRef name, mlir::RankedTensorType type, StateKind kind,
                   llvm::ArrayRef<StateOp> members, llvm::ArrayRef<int64_t> offsets);

/// Lays out all trained parameters, their gradients and one moment per slot in buckets and declares the states. Buckets
/// that `insert-fsdp` has made stay.
std::vector<Bucket> assignBuckets(mlir::ModuleOp module, llvm::ArrayRef<llvm::StringRef> slots);

} // namespace moe::ir

#endif // MOEC_PASSES_BUCKETS_H
