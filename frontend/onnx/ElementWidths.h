//===- ElementWidths.h - Element types that files have and kernels do not -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_ELEMENTWIDTHS_H
#define MOEC_FRONTEND_ONNX_ELEMENTWIDTHS_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::frontend {

/// The element type in which kernels hold numbers of the type `element`: float32 for all floats, i32 for integers of 8
/// and 16 bits, i64 for unsigned ones of 32 bits; all else as it is.
mlir::Type heldElement(mlir::Type element);

/// `values` in the type that `heldElement` says; floats are rounded to nearest.
mlir::DenseElementsAttr heldElements(mlir::DenseElementsAttr values);

/// Gives every tensor in the functions of an imported module the element type that kernels compute (`heldElement`).
/// What floats were stored in does not decide what they are computed in, the recipe does (`precision.compute`); shape
/// arithmetic has been folded in float64 by then. Constants keep the double that they round (kExactAttribute).
/// Integers that overflow their own type are wrapped as that type wraps them. Returns whether an input or a weight was
/// float64: the model then computes in fewer bits than its file says.
bool useKernelTypes(mlir::ModuleOp module);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_ELEMENTWIDTHS_H
