//===- Infer.h - Shared by the inference of result types --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_INFER_H
#define MOEC_IR_INFER_H

#include "ir/Ops.h"

namespace moe::ir {

/// The layout of results of operations on `types`: every layout present must be the same replicated one.
mlir::FailureOr<mlir::Attribute> commonLayout(std::optional<mlir::Location> loc, mlir::TypeRange types);

/// Appends the type of `shape` and `element` with the common layout of `operands`.
llvm::LogicalResult inferLike(std::optional<mlir::Location> loc, mlir::TypeRange operands,
                              llvm::ArrayRef<int64_t> shape, mlir::Type element,
                              llvm::SmallVectorImpl<mlir::Type> &results);

bool arePermutation(llvm::ArrayRef<int64_t> dims, int64_t rank);
bool areDistinctDims(llvm::ArrayRef<int64_t> dims, int64_t rank);

/// Checks that `rng` is tensor<2xi64>: (num_updates, micro-batch index).
llvm::LogicalResult verifyRng(std::optional<mlir::Location> loc, mlir::Value rng);

} // namespace moe::ir

#endif // MOEC_IR_INFER_H
