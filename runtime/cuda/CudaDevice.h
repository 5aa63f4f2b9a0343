//===- CudaDevice.h - The CUDA backend ----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_CUDADEVICE_H
#define MOEC_RUNTIME_CUDA_CUDADEVICE_H

#include "runtime/core/Device.h"

#include <memory>

namespace moe::cuda {

/// Arenas are allocations of one device, lanes streams, signals events. A program, or a sequence of programs, is one
/// graph from the second time on that it runs: inputs are copied from pinned memory at its beginning, metrics to pinned
/// memory at its end, so that a run is two calls of the host: launch and wait.
std::unique_ptr<Device> createCudaDevice();

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_CUDADEVICE_H
