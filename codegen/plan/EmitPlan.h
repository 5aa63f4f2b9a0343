//===- EmitPlan.h - A module after place becomes a plan file ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_EMITPLAN_H
#define MOEC_CODEGEN_PLAN_EMITPLAN_H

#include "mlir/IR/BuiltinOps.h"
#include "runtime/plan/PlanFile.h"

#include <string>

namespace moe::codegen {

struct EmitPlanOptions {
  std::string producer = "moec";
  /// Canonical text of the recipe, kept in the plan.
  std::string recipe;
  unsigned compileThreads = 2;
};

/// Compiles the kernels of a module that has passed `place` and serialises the plan. Fails with diagnostics.
mlir::FailureOr<PlanFile> emitPlan(mlir::ModuleOp module, const EmitPlanOptions &options);

/// Classes, totals, lower bound and the largest buffers at the peak of the step arena; needs no kernels.
mlir::FailureOr<plan::Certificate> makeCertificate(mlir::ModuleOp module);

/// What libraries may allocate on top of the arenas, bytes: oneDNN's generated code and primitive descriptors.
inline constexpr uint64_t kLibraryOverhead = 32ull << 20;

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_EMITPLAN_H
