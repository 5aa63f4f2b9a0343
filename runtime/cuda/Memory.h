//===- Memory.h - Memory of the device, and of the host for the device to read ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_MEMORY_H
#define MOEC_RUNTIME_CUDA_MEMORY_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <memory>
#include <span>

namespace moe::cuda {

struct FreeDevice {
  void operator()(std::byte *memory) const;
};
struct FreePinned {
  void operator()(std::byte *memory) const;
};

/// Device memory, zeroed, aligned to 256. Null for no bytes.
using DeviceMemory = std::unique_ptr<std::byte[], FreeDevice>;
Expected<DeviceMemory> allocateDevice(size_t bytes);

/// Host memory that the device copies to and from while the host does something else, zeroed. Null for no bytes.
using PinnedMemory = std::unique_ptr<std::byte[], FreePinned>;
Expected<PinnedMemory> allocatePinned(size_t bytes);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_MEMORY_H
