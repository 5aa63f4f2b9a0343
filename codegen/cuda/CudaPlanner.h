//===- CudaPlanner.h - Choice of blocks, teams and calls on a GPU -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_CUDA_CUDAPLANNER_H
#define MOEC_CODEGEN_CUDA_CUDAPLANNER_H

#include "codegen/kernel/Strategy.h"

namespace moe::codegen::cuda {

/// The strategy of `op`, the same for every GPU, so that plans for different devices compute the same bits. See
/// KernelTarget::chooseStrategy.
mlir::FailureOr<Strategy> chooseStrategy(ir::FusedOp op);

} // namespace moe::codegen::cuda

#endif // MOEC_CODEGEN_CUDA_CUDAPLANNER_H
