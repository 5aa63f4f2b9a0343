//===- StateElements.h - Elements of frozen states that passes may look at ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_STATEELEMENTS_H
#define MOEC_IR_STATEELEMENTS_H

#include "llvm/ADT/StringRef.h"

namespace moe::ir {

/// Attribute of a frozen `moe.state`: its elements, where the import has seen that they could be a mask. They stay
/// what they are, since only parameters are in checkpoints. `recompose` reads the attribute and takes it away.
inline constexpr llvm::StringLiteral kElementsAttr = "moe.elements";

} // namespace moe::ir

#endif // MOEC_IR_STATEELEMENTS_H
