//===- InspectPrograms.h - What the compiler sees in a model ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_INSPECTPROGRAMS_H
#define MOEC_TOOLS_MOEC_INSPECTPROGRAMS_H

#include "ir/Ops.h"
#include "mlir/IR/BuiltinOps.h"

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moe::tools {

/// For each program of the module: `moe_layers`, `coarse` (operations that finer ones can express, by name) and `fine`
/// (the others), how many of each; `flops` of one execution.
nlohmann::ordered_json describePrograms(mlir::ModuleOp module);
/// The same for people.
std::string programsText(const nlohmann::ordered_json &programs);

/// What an operation owes its lowering for the CPU, as docs/status.md has it: "yes", "planned: why", or "no: why".
llvm::StringRef cpuLowering(ir::MoeOpInterface op);

/// Adds to the array `coverage` each kind of operation of the module whose lowering, as `lowering` tells, is planned
/// and which is not decomposed before: `op`, `where` (the first location), `why`. Kinds that are there already are left
/// out.
void addPlannedLowerings(mlir::ModuleOp module, nlohmann::ordered_json &coverage,
                         llvm::function_ref<llvm::StringRef(ir::MoeOpInterface)> lowering = cpuLowering);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_INSPECTPROGRAMS_H
