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

/// Parameters of one layer and kind, concatenated; every member starts at a multiple of 64 bytes, padding stays zero.
struct Bucket {
  std::string name;               ///< state of the parameters
  std::string gradient;           ///< state of the gradients
  std::vector<std::string> slots; ///< states of the optimizer slots, in the order asked for
  mlir::RankedTensorType type;    ///< flat
};

/// Lays out all trained parameters, their gradients and one moment per slot in buckets (one per layer, experts apart
/// from dense parameters), and declares the states.
std::vector<Bucket> assignBuckets(mlir::ModuleOp module, llvm::ArrayRef<llvm::StringRef> slots);

} // namespace moe::ir

#endif // MOEC_PASSES_BUCKETS_H
