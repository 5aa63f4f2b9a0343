//===- Simulate.cpp -----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/kernels/Simulate.h"

#include "test/gpu/sim/Fibers.h"

namespace {

moe::sim::Order order = moe::sim::Order::Ascending;
uint8_t sharedGarbage = 0xFF;
int launchCount = 0;

} // namespace

void moe::test::detail::beginRun(bool descending, uint8_t garbage) {
  order = descending ? sim::Order::Descending : sim::Order::Ascending;
  sharedGarbage = garbage;
}

void moe::test::wait() {} // launches return when the grid has run

int moe::test::launches() {
  return launchCount;
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t sharedBytes,
                             cudaStream_t /*stream*/) {
  ++launchCount;
  // What a device gives without being asked for more.
  if (sharedBytes > 48 * 1024)
    return cudaErrorInvalidConfiguration;
  auto kernel = reinterpret_cast<moe::sim::Kernel>(const_cast<void *>(function));
  const std::string error = moe::sim::runGrid(kernel, arguments, grid.x, block.x, sharedBytes, order, sharedGarbage);
  if (error.empty())
    return cudaSuccess;
  ADD_FAILURE() << error;
  return cudaErrorInvalidConfiguration;
}
