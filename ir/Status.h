//===- Status.h - The table of obligations ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_STATUS_H
#define MOEC_IR_STATUS_H

#include "mlir/IR/MLIRContext.h"
#include <string>

namespace moe::ir {

/// The text of docs/status.md: each registered operation of the dialect and the state of each of its obligations, in
/// Markdown. The dialect must be loaded.
std::string statusTable(mlir::MLIRContext &context);

} // namespace moe::ir

#endif // MOEC_IR_STATUS_H
