//===- Library.cpp - The entry point of libmoerun-cuda.so ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/CudaDevice.h"

extern "C" __attribute__((visibility("default"))) moe::Device *MOERUN_CREATE_DEVICE() {
  return moe::cuda::createCudaDevice().release();
}
