//===- Device.h - What a backend library implements ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A backend is a library `libmoerun-<device>.so` that defines `moerunCreateDevice1`. It is loaded by name, so that a
// machine needs only the libraries of its own kind. Program and backend belong to one release and share these C++
// types; the number in the symbol's name changes with them.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_DEVICE_H
#define MOEC_RUNTIME_CORE_DEVICE_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/PlanFile.h"

#include <cstddef>
#include <span>

namespace moe {

struct DeviceOptions {
  /// See SessionOptions::poison.
  bool poison = false;
  /// See SessionOptions::profile.
  bool profile = false;
};

/// One rank's device with one plan on it. The calls come in the order prepare, initialize, then any of the others, all
/// from one thread at a time. Every plan has passed `checkPlanStructure`.
class Device {
public:
  virtual ~Device() = default;

  /// Can this machine run the plan? Checks features, threads and the kinds of work. Allocates no arena and loads no
  /// image.
  virtual Status prepare(const plan::Plan &plan) = 0;

  /// Allocates each arena in one piece, zeroed, loads the images, creates the library primitives. `file` outlives the
  /// device.
  virtual Status initialize(const PlanFile &file, const DeviceOptions &options) = 0;

  /// Runs `plan.programs(program)` to completion. An error leaves the arenas in an unspecified state.
  virtual Status run(int program) = 0;

  /// See Session::stepSeconds.
  virtual std::span<const double> stepSeconds(int program) const = 0;

  /// Bytes of a slice (in range) that the host may read and write between runs.
  virtual std::span<std::byte> bytes(const plan::Slice &slice) = 0;

  /// Copies a slice to the host; `destination` has the slice's size.
  virtual void read(const plan::Slice &slice, std::span<std::byte> destination) const = 0;
};

/// Type and name of the one function that a backend exports. The caller owns the device.
using CreateDeviceFn = Device *();
inline constexpr char kCreateDeviceSymbol[] = "moerunCreateDevice1";

} // namespace moe

#endif // MOEC_RUNTIME_CORE_DEVICE_H
