//===- Backend.cpp - Backend libraries, loaded by name ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Backend.h"

#include "runtime/core/Library.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <mutex>
#include <sched.h>
#include <string>

namespace moe {
namespace {

/// Iterations of a loop that pauses, some tenths of a millisecond: longer than most gaps between two parallel steps,
/// far shorter than a time slice.
constexpr char kSpinCount[] = "20000";

int availableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/// Idle threads spin briefly if each has a core of its own, else not at all: a spinning thread would hold the core that
/// another rank or thread needs.
void chooseWaiting(int threads) {
  bool ownCores = threads <= availableCpus();
  ::setenv("OMP_WAIT_POLICY", "passive", 0);
  ::setenv("GOMP_SPINCOUNT", ownCores ? kSpinCount : "0", 0);
}

} // namespace

Expected<std::unique_ptr<Device>> createDevice(std::string_view name, int threads, bool simulated) {
  auto isPlain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  if (name.empty() || !std::all_of(name.begin(), name.end(), isPlain))
    return error("unknown device '" + std::string(name) + "'", {}, "a device is named like 'cpu'");

  std::string file = (simulated ? "simulated/libmoerun-" : "libmoerun-") + std::string(name) + ".so";
  auto path = findLibrary(file);
  if (!path)
    return error("there is no backend for device '" + std::string(name) + "'", file,
                 "it lies neither beside the program (" + path.error() + ") nor in ../lib",
                 simulated
                     ? "simulated devices are part of the tests: build with MOEC_TESTS, or use a plan for a device"
                     : "install the backend, or use a plan for another device");

  // The environment and what libraries do when they are loaded belong to the process.
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  chooseWaiting(threads);
  void *library = ::dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = ::dlerror();
    return error("cannot load the backend for device '" + std::string(name) + "'", path->string(), why ? why : "",
                 "install the libraries that it needs");
  }
  auto *create = reinterpret_cast<CreateDeviceFn *>(::dlsym(library, kCreateDeviceSymbol));
  if (!create)
    return error("the backend belongs to another build", path->string(),
                 std::string("it does not define ") + kCreateDeviceSymbol, "install program and backend together");
  return std::unique_ptr<Device>(create());
}

} // namespace moe
