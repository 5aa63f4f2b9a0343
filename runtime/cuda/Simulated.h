//===- Simulated.h - What the backend tells a simulated device, and no other --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The simulated device (test/gpu/sim) checks that a step touches nothing but what the plan declares, and that its
// kernels give the same bits whoever comes first. For that it must know where a step begins and what it declares. On
// a real device these functions are nothing.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_SIMULATED_H
#define MOEC_RUNTIME_CUDA_SIMULATED_H

#include <cstddef>
#include <cstdint>

/// Bytes of device memory that the work of a step may touch; `access` is a plan::Operand::Access.
struct MoeSimAccess {
  const void *address;
  uint64_t bytes;
  int access;
};

namespace moe::cuda {
struct NcclApi;
/// Gives the functions that stand in for NCCL's; false on a real device.
bool simulatedNccl(NcclApi &api);
} // namespace moe::cuda

#ifdef MOE_CUDA_SIMULATED

extern "C" {
/// All work enqueued until moe_sim_end_step belongs to the step `name`. Both are copied.
void moe_sim_begin_step(const char *name, const MoeSimAccess *accesses, size_t count);
void moe_sim_end_step(void);
/// A kernel of a plan has so many parameters, each a pointer or a number of the same width.
void moe_sim_kernel_words(const void *kernel, uint32_t count);
}

#else

inline void moe_sim_begin_step(const char * /*name*/, const MoeSimAccess * /*accesses*/, size_t /*count*/) {}
inline void moe_sim_end_step() {}
inline void moe_sim_kernel_words(const void * /*kernel*/, uint32_t /*count*/) {}
inline bool moe::cuda::simulatedNccl(NcclApi & /*api*/) {
  return false;
}

#endif

#endif // MOEC_RUNTIME_CUDA_SIMULATED_H
