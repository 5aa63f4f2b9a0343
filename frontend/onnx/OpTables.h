//===- OpTables.h - All operators that the importer knows ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPTABLES_H
#define MOEC_FRONTEND_ONNX_OPTABLES_H

#include "frontend/onnx/OpTable.h"

namespace moe::frontend {

/// The tables that OpTable.h declares.
std::vector<llvm::ArrayRef<OpEntry>> opTables();

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPTABLES_H
