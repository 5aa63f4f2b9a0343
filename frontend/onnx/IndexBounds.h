//===- IndexBounds.h - Which integers of an input stay within the tables that they index --------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_INDEXBOUNDS_H
#define MOEC_FRONTEND_ONNX_INDEXBOUNDS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace moe::frontend {

/// The largest bound such that with integers of `input` from 0 to below it no `moe.gather` in `function` reads behind
/// its table. Indices are followed through sums and products with constants, casts, shapes, comparisons and selections;
/// what depends on something else bounds nothing. 0: no bound is known, or negative numbers have a meaning too, such as
/// labels that are replaced before they index.
int64_t indexBound(mlir::func::FuncOp function, mlir::BlockArgument input);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_INDEXBOUNDS_H
