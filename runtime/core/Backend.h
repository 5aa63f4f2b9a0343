//===- Backend.h - Backend libraries, loaded by name --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_BACKEND_H
#define MOEC_RUNTIME_CORE_BACKEND_H

#include "runtime/core/Device.h"

#include <memory>
#include <string_view>

namespace moe {

/// Loads `libmoerun-<name>.so` from the folder of the running program or from `../lib` seen from there, and creates its
/// device. The library stays loaded until the process ends: its threads may outlive every device.
///
/// Ranks that are threads may call this at the same time. `threads` is the number of threads that the plan asks for, of
/// all ranks of the process. It decides how long idle threads spin before
/// they sleep, which OpenMP reads when it is loaded; values that the user has set win.
///
/// A simulated device, which exists for tests, has the same backend built against stand-ins of the device's libraries:
/// it lies in the folder `simulated` of the one where the backend would lie.
Expected<std::unique_ptr<Device>> createDevice(std::string_view name, int threads, bool simulated = false);

} // namespace moe

#endif // MOEC_RUNTIME_CORE_BACKEND_H
