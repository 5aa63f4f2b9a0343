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

#include <optional>
#include <vector>

#include "ir/MoeEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/MoeAttrs.h.inc"

#include "ir/MoeDialect.h.inc"

namespace moe::ir {
struct HostTensor;
class InterpreterContext;

/// Trait `PlaceDependent`: results depend on the index of an element in the whole tensor; a rank must know its part.
// NOLINTNEXTLINE(bugprone-crtp-constructor-accessibility): MLIR's Op makes traits, not the operation itself.
template <typename ConcreteOp> class PlaceDependent : public mlir::OpTrait::TraitBase<ConcreteOp, PlaceDependent> {};
} // namespace moe::ir

#include "ir/MoeInterfaces.h.inc"

#endif // MOEC_IR_DIALECT_H
