//===- SimulatedDevice.h - What CUDA kernels built for the host call ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The target `cuda:simulated` compiles the very functions of the other CUDA targets for the host, as a shared object
// (image format "host") that the simulated device loads and that finds these functions there. A generated kernel is
// `extern "C" void symbol(void *const *arguments)`, called once per thread of the grid: argument i, a pointer or
// an int64_t, lies where `arguments[i]` points, as in the argument array of cudaLaunchKernel. Grids and blocks have one
// dimension, warps 32 threads; every thread of a block meets every barrier, every lane of a warp every shuffle.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_ABI_SIMULATEDDEVICE_H
#define MOEC_RUNTIME_ABI_SIMULATEDDEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// threadIdx.x, blockIdx.x.
uint32_t moe_sim_thread(void);
uint32_t moe_sim_block(void);
/// __syncthreads().
void moe_sim_barrier(void);
/// __shfl_xor_sync over the full warp: the value of lane (own lane ^ mask).
uint32_t moe_sim_shuffle_xor(uint32_t value, uint32_t mask);
/// Start of the block's dynamic shared memory, 16-byte aligned.
void *moe_sim_shared(void);

// What kernels written by hand use besides (runtime/cuda/kernels/Gpu.h):

/// Bytes from one lane to the next in the result of moe_sim_exchange.
#define MOE_SIM_EXCHANGE_BYTES 64
/// Called by every lane of a warp: publishes `bytes` (at most 64) at `mine` and returns those of all lanes. The pointer
/// is good until the lane's next exchange or shuffle.
const unsigned char *moe_sim_exchange(const void *mine, size_t bytes);
/// The name under which errors mention a kernel; others are asked of the dynamic linker. `name` is not copied.
void moe_sim_name_kernel(void (*kernel)(void *const *), const char *name);
/// The sizes of a kernel's parameters, which a launch that is captured copies. `bytes` is copied.
void moe_sim_kernel_parameters(void (*kernel)(void *const *), const uint32_t *bytes, uint32_t count);

#ifdef __cplusplus
}
#endif

#endif // MOEC_RUNTIME_ABI_SIMULATEDDEVICE_H
