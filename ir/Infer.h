//===- Infer.h - Shared by the inference of result types --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_INFER_H
#define MOEC_IR_INFER_H

#include "ir/LayoutRules.h"

namespace moe::ir {

/// `inferLayouts` of values, which messages call by name.
llvm::LogicalResult inferLayouts(std::optional<mlir::Location> loc, const LayoutRule &rule, mlir::ValueRange operands,
                                 llvm::MutableArrayRef<mlir::Type> results);

/// Of a value, for messages: `'NAME'`, and the pass that made it lie as it does on mesh axis `axis`: the one that has
/// inserted the nearest operation between ranks above it. `('decoder.fc1.weight', from insert-fsdp)`, with a space
/// before it; empty if neither is known.
std::string describeOrigin(mlir::Value value, unsigned axis);

/// Appends the type of `shape` and `element` whose layout follows from those of `operands` by `rule`.
llvm::LogicalResult inferLike(std::optional<mlir::Location> loc, const LayoutRule &rule, mlir::ValueRange operands,
                              llvm::ArrayRef<int64_t> shape, mlir::Type element,
                              llvm::SmallVectorImpl<mlir::Type> &results);

bool arePermutation(llvm::ArrayRef<int64_t> dims, int64_t rank);
bool areDistinctDims(llvm::ArrayRef<int64_t> dims, int64_t rank);

/// Checks that `rng` is tensor<2xi64>: (num_updates, micro-batch index).
llvm::LogicalResult verifyRng(std::optional<mlir::Location> loc, mlir::Value rng);

} // namespace moe::ir

#endif // MOEC_IR_INFER_H
