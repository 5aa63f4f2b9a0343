//===- Widen.h - A module of any precision as one of float64 ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_REFERENCE_WIDEN_H
#define MOEC_IR_REFERENCE_WIDEN_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::ir {

/// Makes every floating-point type of `module` float64, those of states, functions, constants and casts included.
///
/// The interpreter computes in float64 anyway, but a constant that a pass creates (1/M of a mean, say) has the type of
/// the value it belongs to. Comparisons with float64 oracles to better than 1e-7 therefore widen the module before
/// differentiation and decomposition. The type in which a file stores a state is kept. Fails with a diagnostic if a
/// constant cannot be read.
mlir::LogicalResult widenToFloat64(mlir::ModuleOp module);

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_WIDEN_H
