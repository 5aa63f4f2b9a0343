//===- Simulator.h - What tests ask the simulated device ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The stand-ins of the CUDA runtime, of cuBLASLt and of NCCL execute on host memory what real ones execute on devices:
//
//  * Work goes step by step (runtime/cuda/Simulated.h). While a step runs, pages outside its declared slices can not be
//    touched, pages that it only reads can not be written, and the bytes of other values on the same pages must
//    survive. Slices that it writes, and scratch, hold garbage before.
//  * A step with kernels or products runs twice, with opposite orders of threads, other garbage, and then also other
//    values around; a bit that differs is an error.
//  * Fresh memory, scratch of earlier steps and what a step leaves of the slices it declares to write are undefined.
//    They hold garbage, too, for steps that read them, and NaN or -1 for the host. Copies of them are as undefined.
//  * In a graph that is no chain, steps that touch the same memory, one of them writing, must be ordered by events.
//    It runs in two extreme topological orders; device memory that differs is an error.
//  * What ranks send each other goes through files in memory, so that they may be threads or processes (Nccl.cpp).
//  * While a stream is captured, whatever CUDA refuses is refused and invalidates the capture.
//
// An error is a code of CUDA's; cudaGetErrorString says in words what was found. Read from the environment, once:
//
//   MOE_SIM_DEVICES      number of devices; default 1. Each is used by one thread
//   MOE_SIM_CAPABILITY   "9.0"; default 0.0, which runs plans for the target "simulated"
//   MOE_SIM_MEMORY       bytes of the device; default 16 GiB
//   MOE_SIM_DRIVER       version of the driver, 13000 by default; 0 = none
//   MOE_SIM_ALGORITHM    0 or 1: what cuBLASLt chooses; the two add in other orders
//   MOE_SIM_PATIENCE     seconds after which work that waits for other ranks is taken to wait forever; default 300
//   MOE_SIM_TRACE        a file that gets the names of all calls, in order, repeats counted, when the process ends
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_SIMULATOR_H
#define MOEC_TEST_GPU_SIM_SIMULATOR_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace moe::sim {

struct Settings {
  int devices = 1;
  int major = 0, minor = 0;
  size_t memory = size_t{16} << 30;
  int driver = 13000;
  int algorithm = 0;
  int patience = 300;
  std::string trace;
};
/// May be changed between calls.
Settings &settings();

/// Names of all calls since the last `forgetCalls`, in order.
const std::vector<const char *> &calls();
void forgetCalls();

/// Bytes of device memory that are allocated, on all devices.
size_t allocatedBytes();

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_SIMULATOR_H
