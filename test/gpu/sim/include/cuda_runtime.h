//===- cuda_runtime.h - The part of the CUDA runtime that moerun uses, for hosts without the toolkit --------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The names, values and signatures of the toolkit's header: the same sources compile against either.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_INCLUDE_CUDA_RUNTIME_H
#define MOEC_TEST_GPU_SIM_INCLUDE_CUDA_RUNTIME_H

#include <stddef.h>

enum cudaError { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaError_t = enum cudaError;

using cudaStream_t = struct CUstream_st *;

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

extern "C" cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments,
                                        size_t sharedBytes, cudaStream_t stream);

#endif // MOEC_TEST_GPU_SIM_INCLUDE_CUDA_RUNTIME_H
