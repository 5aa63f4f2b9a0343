//===- Infer.h - Shared by the inference of result types --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_INFER_H
#define MOEC_IR_INFER_H

#include "ir/LayoutRules.h"

namespace moe::ir {

/// Appends the type of `shape` and `element` whose layout follows from those of `operands` by `rule`.
llvm::LogicalResult inferLike(std::optional<mlir::Location> loc, const LayoutRule &rule, mlir::TypeRange operands,
                              llvm::ArrayRef<int64_t> shape, mlir::Type element,
                              llvm::SmallVectorImpl<mlir::Type> &results);

bool arePermutation(llvm::ArrayRef<int64_t> dims, int64_t rank);
bool areDistinctDims(llvm::ArrayRef<int64_t> dims, int64_t rank);

/// Checks that `rng` is tensor<2xi64>: (num_updates, micro-batch index).
llvm::LogicalResult verifyRng(std::optional<mlir::Location> loc, mlir::Value rng);

} // namespace moe::ir

#endif // MOEC_IR_INFER_H
