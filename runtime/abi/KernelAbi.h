//===- KernelAbi.h - What generated kernels and the runtime agree on
//------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// A kernel is `extern "C" void kernel(const MoeKernelArgs *args, int64_t begin, int64_t end)`: it computes the part
// [begin, end) of its extent, never spawns threads, never allocates, and touches only what its step's operands declare.
// Plain C, since code generation writes it as LLVM IR and the runtime (any compiler) calls it.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_ABI_KERNELABI_H
#define MOEC_RUNTIME_ABI_KERNELABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Arguments of one kernel call. Operand i of the plan step is `pointers[i]`.
typedef struct MoeKernelArgs {
  void *const *pointers;
  /// `KernelCall.numbers` of the plan.
  const int64_t *numbers;
  /// Coordinate of this rank on each mesh axis, in the order of `Plan.mesh`.
  const int64_t *axis_index;
} MoeKernelArgs;

typedef void (*MoeKernelFn)(const MoeKernelArgs *args, int64_t begin, int64_t end);

#ifdef __cplusplus
}
#endif

#endif // MOEC_RUNTIME_ABI_KERNELABI_H
