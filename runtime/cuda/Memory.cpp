//===- Memory.cpp - Memory of the device, and of the host for the device to read ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Memory.h"

#include "runtime/cuda/Errors.h"

#include <cstring>

namespace moe::cuda {

void FreeDevice::operator()(std::byte *memory) const {
  static_cast<void>(cudaFree(memory)); // nothing more can be done about it
}

void FreePinned::operator()(std::byte *memory) const {
  static_cast<void>(cudaFreeHost(memory));
}

Expected<DeviceMemory> allocateDevice(size_t bytes) {
  void *memory = nullptr;
  if (bytes == 0)
    return DeviceMemory();
  if (Status status = check(cudaMalloc(&memory, bytes), "allocate device memory"); !status)
    return tl::unexpected(std::move(status.error()));
  DeviceMemory result(static_cast<std::byte *>(memory));
  if (Status status = check(cudaMemset(memory, 0, bytes), "clear device memory"); !status)
    return tl::unexpected(std::move(status.error()));
  return result;
}

Expected<PinnedMemory> allocatePinned(size_t bytes) {
  void *memory = nullptr;
  if (bytes == 0)
    return PinnedMemory();
  if (Status status = check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "allocate pinned host memory");
      !status)
    return tl::unexpected(std::move(status.error()));
  std::memset(memory, 0, bytes);
  return PinnedMemory(static_cast<std::byte *>(memory));
}

} // namespace moe::cuda
