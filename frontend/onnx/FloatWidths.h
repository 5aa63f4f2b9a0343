//===- FloatWidths.h - Models of any floats become models of float32
//-----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_FLOATWIDTHS_H
#define MOEC_FRONTEND_ONNX_FLOATWIDTHS_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::frontend {

/// Makes float32 of every tensor of other floats in the functions of an imported module: what a model was stored in
/// does not decide what it is computed in, the recipe does (`precision.compute`). Shape arithmetic has been folded in
/// float64 by then. Constants keep the double that they round (kExactAttribute). Returns whether an input or a weight
/// was float64: the model then computes in fewer bits than its file says.
bool useFloat32(mlir::ModuleOp module);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_FLOATWIDTHS_H
