//===- State.h - What the stand-ins share -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_STATE_H
#define MOEC_TEST_GPU_SIM_STATE_H

#include <cstddef>
#include <cuda_runtime.h>
#include <string>
#include <vector>

namespace moe::sim {

/// Inaccessible bytes on both sides of an allocation: accesses that far off are still recognised as such. They cost
/// addresses, not memory.
inline constexpr size_t kGuard = size_t{1} << 28;

/// A mapping of its own, whole pages between two guards that nobody may touch.
struct Allocation {
  std::byte *begin = nullptr;
  size_t bytes = 0;  ///< as asked for
  size_t mapped = 0; ///< whole pages

  std::byte *end() const { return begin + mapped; }
};

/// Makes a device that of this thread, as cudaSetDevice does. One device is used by one thread at a time.
void useDevice(int number);
int deviceInUse();

/// Memory of this thread's device, in order of address.
const std::vector<Allocation> &deviceMemory();
/// The allocation whose asked-for bytes hold [address, address + bytes), else null.
const Allocation *findDevice(const void *address, size_t bytes);
/// Whether bytes lie in host memory that cudaHostAlloc gave.
bool isPinned(const void *address, size_t bytes);
/// "byte 64 of a device allocation of 4096", for messages.
std::string describeAddress(const void *address);

/// Records a call of the API. The first thing that each does.
void record(const char *call);
/// Remembers `text` as what cudaGetErrorString says about `code`, and returns the code.
cudaError_t fail(cudaError_t code, std::string text);

/// For calls that CUDA refuses while a stream of this thread is captured in a mode other than relaxed: invalidates the
/// captures and returns the error; cudaSuccess if there are none.
cudaError_t refuseInCapture(const char *call);

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_STATE_H
