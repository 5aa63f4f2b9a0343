//===- RandomKeys.h - Keys of the random numbers of a region -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// The dropouts of a model's layers differ in nothing but their site. Kernels therefore take the key that seed and site
// make as a number of the call, and layers share them.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_RANDOMKEYS_H
#define MOEC_CODEGEN_KERNEL_RANDOMKEYS_H

#include "ir/Ops.h"

namespace moe::codegen {

/// The two halves of Philox's key, low half first (description of `random_uniform`).
int64_t randomKey(ir::RandomUniformOp op);

/// The different keys in a region, in the order of the operations.
llvm::SmallVector<int64_t> randomKeys(ir::FusedOp op);

/// Position of an operation's key among those of its region.
unsigned keyNumber(ir::RandomUniformOp op, llvm::ArrayRef<int64_t> keys);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_RANDOMKEYS_H
