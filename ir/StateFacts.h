//===- StateFacts.h - What is known of the values of states when compiling ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_STATEFACTS_H
#define MOEC_IR_STATEFACTS_H

#include "llvm/ADT/StringRef.h"

namespace moe::ir {

/// Unit attribute of a frozen state of rank 1 whose elements are 0, 1, 2, …
inline constexpr llvm::StringLiteral kCountsAttr = "moe.counts";

} // namespace moe::ir

#endif // MOEC_IR_STATEFACTS_H
