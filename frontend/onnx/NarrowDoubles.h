//===- NarrowDoubles.h - Models of float64 are computed in float32 ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_NARROWDOUBLES_H
#define MOEC_FRONTEND_ONNX_NARROWDOUBLES_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::frontend {

/// Makes float32 of every float64 tensor in the functions of an imported module, since no target computes in float64.
/// Shape arithmetic has been folded in float64 by then. Constants keep the double that they rounded (kExactAttribute).
/// Returns whether an input or a weight was float64: the model then computes in fewer bits than its file says.
bool narrowDoubles(mlir::ModuleOp module);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_NARROWDOUBLES_H
