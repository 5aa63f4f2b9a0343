//===- CpuPlanner.h - Choice of loops, chunks and calls on a CPU --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CPU_CPUPLANNER_H
#define MOEC_CODEGEN_CPU_CPUPLANNER_H

#include "codegen/kernel/Strategy.h"

namespace moe::codegen {

/// The strategy of `op` for vectors of `vectorBits` (128, 256 or 512; it changes the order of sums, hence bits). See
/// KernelTarget::chooseStrategy.
mlir::FailureOr<Strategy> chooseCpuStrategy(ir::FusedOp op, unsigned vectorBits);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_CPU_CPUPLANNER_H
