//===- GroupDotOperands.h - Matrix products of operands as libraries take them ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_GROUPDOTOPERANDS_H
#define MOEC_PASSES_GROUPDOTOPERANDS_H

#include "mlir/IR/BuiltinOps.h"

namespace moe::ir {

/// Transposes operands of `moe.dot` whose batch, rows and columns do not lie behind each other, in either order of rows
/// and columns. Attention written as products of transposed heads reads [batch, position, head, element] so.
void groupDotOperands(mlir::ModuleOp module);

} // namespace moe::ir

#endif // MOEC_PASSES_GROUPDOTOPERANDS_H
