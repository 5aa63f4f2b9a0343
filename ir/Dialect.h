//===- Dialect.h - The moe dialect, its attributes and interfaces -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_DIALECT_H
#define MOEC_IR_DIALECT_H

#include "ir/LayoutRule.h"
#include "ir/Support.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"

#include "ir/MoeEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/MoeAttrs.h.inc"

#include "ir/MoeDialect.h.inc"

namespace moe::ir {
struct HostTensor;
class InterpreterContext;
} // namespace moe::ir

#include "ir/MoeInterfaces.h.inc"

#endif // MOEC_IR_DIALECT_H
