//===- Simulate.h - Kernels on the simulated device, for tests ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Simulate.cpp defines cudaLaunchKernel: the grid runs at once, device memory is that of the host. With OnDevice.cpp
// instead of it the same tests run on a device: what kernels read or write must then come from `new`.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_KERNELS_SIMULATE_H
#define MOEC_TEST_GPU_KERNELS_SIMULATE_H

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace moe::test {

/// Calls `work`, which launches kernels and returns what they computed, once in each order and with other garbage in
/// shared memory; the results must compare equal (a result may be NaN: compare bits). Returns them.
template <typename Work> auto simulate(const Work &work);

/// To be called by `work` before it reads or deletes what kernels touch: they have ended; what went wrong is reported.
void wait();

/// Launches so far; `work` may ask how many it made. Not counted on a device.
int launches();

/// Memory that no kernel has written: bytes that are NaN as floats, far outside as indices.
template <typename T> std::vector<T> unwritten(size_t count);

namespace detail {
void beginRun(bool descending, uint8_t garbage);
} // namespace detail

template <typename Work> auto simulate(const Work &work) {
  detail::beginRun(false, 0xFF);
  auto result = work();
  detail::beginRun(true, 0x5A);
  EXPECT_TRUE(result == work()) << "the order of threads, or what is in shared memory, changes the result";
  return result;
}

template <typename T> std::vector<T> unwritten(size_t count) {
  std::vector<T> values(count);
  auto *bytes = reinterpret_cast<unsigned char *>(values.data());
  std::fill(bytes, bytes + count * sizeof(T), static_cast<unsigned char>(0xFF));
  return values;
}

} // namespace moe::test

#endif // MOEC_TEST_GPU_KERNELS_SIMULATE_H
