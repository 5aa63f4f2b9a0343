//===- Recompose.h - Coarse operations in place of fine ones ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_RECOMPOSE_H
#define MOEC_PASSES_RECOMPOSE_RECOMPOSE_H

#include "passes/recompose/KnownValues.h"

namespace moe::ir::recompose {

// Each of these rewrites a function from top to bottom and leaves what it has replaced in place, unused: `values`, and
// whoever holds an operation, may go on. What is unused is for the caller to erase.

/// x rsqrt(mean(x^2) + epsilon) as moe.rms_norm, (x - mean(x)) rsqrt(…) as moe.layer_norm, both along the last
/// dimension; a factor and a term along it become their scale and bias.
void rewriteNorms(mlir::Operation *function, KnownValues &values);

/// x/2 (1 + erf(x / sqrt 2)) and x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) as moe.gelu, in whatever order their
/// products and sums were taken.
void rewriteActivations(mlir::Operation *function, KnownValues &values);

/// Products read what was transposed in place, and chains of transposes and reshapes become short. Without `chains`
/// the products alone. Fails if the rewriting does not come to an end.
llvm::LogicalResult foldMovement(mlir::Operation *root, bool chains);

} // namespace moe::ir::recompose

#endif // MOEC_PASSES_RECOMPOSE_RECOMPOSE_H
