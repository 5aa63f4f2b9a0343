//===- StateTable.h - States, inputs and metrics of a plan ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_STATETABLE_H
#define MOEC_CODEGEN_PLAN_STATETABLE_H

#include "passes/BufferTable.h"
#include "passes/TrainingAttributes.h"
#include "runtime/plan/plan.pb.h"

namespace moe::codegen {

/// Fills `state`, `inputs`, `metrics` and `training` of the plan.
llvm::LogicalResult fillStateTables(mlir::ModuleOp module, const ir::BufferTable &table,
                                    const ir::TrainingAttributes &training, plan::Plan &plan);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_STATETABLE_H
