//===- Probe.h - Can this machine run a plan for CUDA? ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_PROBE_H
#define MOEC_RUNTIME_CUDA_PROBE_H

#include "runtime/core/Device.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe::cuda {

/// The device that a rank computes on.
struct DeviceInfo {
  int number = 0; ///< of those that CUDA_VISIBLE_DEVICES leaves
  std::string name;
  int major = 0, minor = 0; ///< compute capability; 0.0 is the simulated device
  uint64_t freeBytes = 0, totalBytes = 0;

  std::string capability() const { return std::to_string(major) + "." + std::to_string(minor); }
};

/// Makes a device that of the calling thread and says what it is: for rank r of a machine number r of those that there
/// are, or from the beginning again, since launchers may leave each rank a device of its own. Errors: no driver, one
/// that is too old, no device.
Expected<DeviceInfo> probeDevice(int localRank);

/// Errors: the plan's code is for devices of another capability, or in a format that the device does not take.
Status checkTarget(const plan::Plan &plan, const DeviceInfo &device);

/// Errors: the certificate is larger than what is free; says what would fit.
Status checkMemory(const plan::Plan &plan, const DeviceInfo &device);

/// See Device::describe.
std::vector<DeviceFact> describeCuda();

/// "13.0" of 13000.
std::string versionText(int version);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_PROBE_H
