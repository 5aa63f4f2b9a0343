//===- Device.h - What a backend library implements ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A backend is a library `libmoerun-<device>.so` that defines `MOERUN_CREATE_DEVICE`. It is loaded by name, so that a
// machine needs only the libraries of its own kind. Program and backend belong to one build and share these C++ types;
// the build makes the symbol's name from them.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_DEVICE_H
#define MOEC_RUNTIME_CORE_DEVICE_H

#include "runtime/comm/Communicator.h"
#include "runtime/core/DeviceAbi.h"
#include "runtime/core/Diagnostic.h"
#include "runtime/plan/PlanFile.h"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace moe {

struct DeviceOptions {
  /// See SessionOptions::poison.
  bool poison = false;
  /// See SessionOptions::profile.
  bool profile = false;
  /// See SessionOptions::choices.
  std::filesystem::path choices = {};
  /// The plan's ranks, of which the device is one; null if the plan is for one rank. Outlives the device.
  Communicator *communicator = nullptr;
};

/// One line of what `moerun doctor` tells of a backend.
struct DeviceFact {
  std::string name;    ///< "driver"
  std::string value;   ///< "13.0", or "missing"
  std::string problem; ///< what does not work because of it and what to do; empty if all is well
};

/// One rank's device with one plan on it. The calls come in the order prepare, initialize, then any of the others, all
/// from one thread at a time. Every plan has passed `checkPlanStructure`.
class Device {
public:
  virtual ~Device() = default;

  /// What this machine has of what the backend needs: driver, devices, libraries with their versions. May be called on
  /// a device that has not been prepared.
  virtual std::vector<DeviceFact> describe() const = 0;

  /// Whether the arenas lie in the memory of the host, which then has to have room for them.
  virtual bool usesHostMemory() const { return true; }

  /// Can this machine run the plan? Checks features, threads, the kinds of work and, unless `usesHostMemory`, free
  /// memory. Allocates no arena and loads no image. `localRank`: which of its machine's ranks this is, from 0; a
  /// machine with several devices gives each rank one.
  virtual Status prepare(const plan::Plan &plan, int localRank) = 0;

  /// Allocates each arena in one piece, zeroed, loads the images, creates the library primitives. `file` outlives the
  /// device.
  virtual Status initialize(const PlanFile &file, const DeviceOptions &options) = 0;

  /// Runs `plan.programs(program)` to completion. An error leaves the arenas in an unspecified state.
  virtual Status run(int program) = 0;

  /// See Session::runSequence. Devices for which starting work is expensive make one launch of a sequence that comes
  /// again and again.
  virtual Status runSequence(std::span<const int> programs, const std::function<void(int program)> &starts) {
    for (int program : programs) {
      starts(program);
      if (Status status = run(program); !status)
        return status;
    }
    return {};
  }

  /// See Session::stepSeconds.
  virtual std::span<const double> stepSeconds(int program) const = 0;

  /// See Session::bytes.
  virtual std::span<std::byte> bytes(const plan::Slice &slice) = 0;

  /// Copies a slice (in range) to the host; `destination` has the slice's size.
  virtual Status read(const plan::Slice &slice, std::span<std::byte> destination) const = 0;

  /// Copies from the host to a slice; `source` has the slice's size.
  virtual Status write(const plan::Slice &slice, std::span<const std::byte> source) = 0;
};

/// Type and name of the one function that a backend exports. The caller owns the device.
using CreateDeviceFn = Device *();
inline constexpr char kCreateDeviceSymbol[] = MOERUN_CREATE_DEVICE_NAME;

} // namespace moe

#endif // MOEC_RUNTIME_CORE_DEVICE_H
