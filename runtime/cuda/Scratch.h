//===- Scratch.h - Scratch memory of the CUDA backend's library work ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Functions of the plan alone, the same for every device: the compiler places these bytes, the certificate counts them,
// and the backend makes do with them. No header of CUDA is needed here, so that machines without it compile plans.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_SCRATCH_H
#define MOEC_RUNTIME_CUDA_SCRATCH_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>

namespace moe::cuda {

/// cuBLASLt wants workspaces aligned to this; buffers of a plan need not be. `gemmWorkspaceBytes` counts the loss.
inline constexpr uint64_t kWorkspaceAlignment = 256;

/// Scratch of a product: room for the partial sums of a split of k, float32 whatever the operands are, at most 32 MiB.
/// cuBLASLt never chooses an algorithm that wants more than it is offered.
uint64_t gemmWorkspaceBytes(const plan::Gemm &gemm);

/// Forward: nothing. Backward: sum_d(dout * out) for each query, float32 [B, H, T].
uint64_t attentionScratchBytes(const plan::Attention &attention);

/// Forward: E + 1 partial sums, float64, for every 64 rows of a group; if batch-prioritised also the order of rows,
/// int32 [G, S]. Backward: nothing.
uint64_t routeScratchBytes(const plan::Route &route);

/// Linked lists, int32: the first row of each row of the table [V], the next one of each row [N].
uint64_t scatterAddScratchBytes(const plan::ScatterAdd &scatter);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_SCRATCH_H
