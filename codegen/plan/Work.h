//===- Work.h - Operations as steps of a plan -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_WORK_H
#define MOEC_CODEGEN_PLAN_WORK_H

#include "codegen/kernel/KernelTarget.h"
#include "codegen/kernel/PlanType.h"

namespace moe::codegen {

/// Dimensions of a `moe.dot` as a batched matrix product on contiguous operands.
struct GemmShape {
  int64_t batch = 1, m = 1, n = 1, k = 1;
  bool transposeA = false, transposeB = false;
};

/// Fails if the batch, free and contracted dimensions of an operand are not grouped in memory (batch first).
mlir::FailureOr<GemmShape> gemmShape(ir::DotOp dot);

/// Fills `step.work` and `step.flops` for a library operation (a `moe.fused "product"` is one); scratch is what
/// `target` needs. Fails with a diagnostic for an operation without lowering there.
llvm::LogicalResult fillLibraryWork(mlir::Operation *op, const KernelTarget &target, plan::Step &step);

/// Bytes of the scratch operand of library work, 0 if it has none.
uint64_t scratchBytes(const plan::Step &step);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_WORK_H
