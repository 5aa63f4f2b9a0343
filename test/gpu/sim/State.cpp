//===- State.cpp - Settings, errors and memory of the simulated device --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/State.h"

#include "test/gpu/sim/Simulator.h"
#include "test/gpu/sim/Streams.h"
#include "test/gpu/sim/Undefined.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace moe::sim {
namespace {

/// What new device memory holds: not zero, as the backend must not rely on it.
constexpr int kFresh = 0xA5;

size_t pages(size_t bytes) {
  auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (std::max<size_t>(bytes, 1) + page - 1) / page * page;
}

size_t numberFrom(const char *name, size_t fallback) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : fallback;
}

Settings fromEnvironment() {
  Settings result;
  result.devices = static_cast<int>(numberFrom("MOE_SIM_DEVICES", 1));
  result.memory = numberFrom("MOE_SIM_MEMORY", result.memory);
  result.driver = static_cast<int>(numberFrom("MOE_SIM_DRIVER", 13000));
  result.algorithm = static_cast<int>(numberFrom("MOE_SIM_ALGORITHM", 0));
  result.patience = static_cast<int>(numberFrom("MOE_SIM_PATIENCE", static_cast<size_t>(result.patience)));
  if (const char *text = std::getenv("MOE_SIM_CAPABILITY")) {
    char *point = nullptr;
    result.major = static_cast<int>(std::strtol(text, &point, 10));
    result.minor = *point == '.' ? static_cast<int>(std::strtol(point + 1, nullptr, 10)) : 0;
  }
  if (const char *text = std::getenv("MOE_SIM_TRACE"))
    result.trace = text;
  return result;
}

struct Log {
  std::mutex mutex;
  std::vector<const char *> calls;
  ~Log() {
    const std::string &path = settings().trace;
    if (path.empty())
      return;
    std::ofstream file(path);
    for (size_t i = 0, next = 0; i < calls.size(); i = next) {
      while (next < calls.size() && std::strcmp(calls[next], calls[i]) == 0)
        ++next;
      file << calls[i] << ' ' << next - i << '\n';
    }
  }
};

Log &log() {
  settings(); // lives longer
  static Log instance;
  return instance;
}

/// One device. All but the creation is left to the thread that uses it.
struct DeviceState {
  std::vector<Allocation> memory;
  Undefined undefined;
};

struct Machine {
  std::mutex mutex;
  std::map<int, DeviceState> devices; ///< those that have been used
  std::vector<std::pair<std::byte *, size_t>> pinned;
  std::atomic<size_t> used = 0; ///< bytes of all devices
};

Machine &machine() {
  static Machine instance;
  return instance;
}

struct Chosen {
  int number = 0;
  DeviceState *state = nullptr;
};

/// The device of this thread; number 0 if it has not said which.
Chosen &chosen() {
  thread_local Chosen instance;
  if (!instance.state) {
    std::scoped_lock lock(machine().mutex);
    instance.state = &machine().devices[instance.number];
  }
  return instance;
}

std::vector<Allocation> &memory() {
  return chosen().state->memory;
}

size_t usedHere() {
  size_t bytes = 0;
  for (const Allocation &allocation : memory())
    bytes += allocation.bytes;
  return bytes;
}

struct Failure {
  cudaError_t code = cudaSuccess;
  std::string text;
};

Failure &lastFailure() {
  thread_local Failure instance;
  return instance;
}

const char *nameOf(cudaError_t code) {
  switch (code) {
  case cudaSuccess:
    return "cudaSuccess";
  case cudaErrorInvalidValue:
    return "cudaErrorInvalidValue";
  case cudaErrorMemoryAllocation:
    return "cudaErrorMemoryAllocation";
  case cudaErrorInvalidConfiguration:
    return "cudaErrorInvalidConfiguration";
  case cudaErrorInvalidMemcpyDirection:
    return "cudaErrorInvalidMemcpyDirection";
  case cudaErrorInsufficientDriver:
    return "cudaErrorInsufficientDriver";
  case cudaErrorInvalidDeviceFunction:
    return "cudaErrorInvalidDeviceFunction";
  case cudaErrorNoDevice:
    return "cudaErrorNoDevice";
  case cudaErrorInvalidDevice:
    return "cudaErrorInvalidDevice";
  case cudaErrorInvalidKernelImage:
    return "cudaErrorInvalidKernelImage";
  case cudaErrorInvalidResourceHandle:
    return "cudaErrorInvalidResourceHandle";
  case cudaErrorSymbolNotFound:
    return "cudaErrorSymbolNotFound";
  case cudaErrorIllegalAddress:
    return "cudaErrorIllegalAddress";
  case cudaErrorNotReady:
    return "cudaErrorNotReady";
  case cudaErrorLaunchFailure:
    return "cudaErrorLaunchFailure";
  case cudaErrorNotSupported:
    return "cudaErrorNotSupported";
  case cudaErrorStreamCaptureUnsupported:
    return "cudaErrorStreamCaptureUnsupported";
  case cudaErrorStreamCaptureInvalidated:
    return "cudaErrorStreamCaptureInvalidated";
  case cudaErrorStreamCaptureUnmatched:
    return "cudaErrorStreamCaptureUnmatched";
  case cudaErrorStreamCaptureUnjoined:
    return "cudaErrorStreamCaptureUnjoined";
  case cudaErrorStreamCaptureIsolation:
    return "cudaErrorStreamCaptureIsolation";
  case cudaErrorCapturedEvent:
    return "cudaErrorCapturedEvent";
  }
  return "unknown error";
}

} // namespace

Settings &settings() {
  static Settings instance = fromEnvironment();
  return instance;
}

const std::vector<const char *> &calls() {
  return log().calls;
}

void forgetCalls() {
  log().calls.clear();
}

size_t allocatedBytes() {
  return machine().used;
}

void useDevice(int number) {
  chosen() = {number, nullptr};
}

int deviceInUse() {
  return chosen().number;
}

Undefined &undefinedMemory() {
  return chosen().state->undefined;
}

const std::vector<Allocation> &deviceMemory() {
  return memory();
}

const Allocation *findDevice(const void *address, size_t bytes) {
  const auto *at = static_cast<const std::byte *>(address);
  for (const Allocation &allocation : memory())
    if (at >= allocation.begin && bytes <= allocation.bytes && at <= allocation.begin + (allocation.bytes - bytes))
      return &allocation;
  return nullptr;
}

bool isPinned(const void *address, size_t bytes) {
  const auto *at = static_cast<const std::byte *>(address);
  std::scoped_lock lock(machine().mutex);
  return std::ranges::any_of(machine().pinned, [&](const auto &block) {
    return at >= block.first && bytes <= block.second && at <= block.first + (block.second - bytes);
  });
}

std::string describeAddress(const void *address) {
  const auto *at = static_cast<const std::byte *>(address);
  for (const Allocation &allocation : memory())
    if (at + kGuard >= allocation.begin && at < allocation.end() + kGuard)
      return "byte " + std::to_string(at - allocation.begin) + " of a device allocation of " +
             std::to_string(allocation.bytes);
  return "an address that is not of the device";
}

void record(const char *call) {
  std::scoped_lock lock(log().mutex);
  log().calls.push_back(call);
}

cudaError_t fail(cudaError_t code, std::string text) {
  lastFailure() = {code, std::move(text)};
  return code;
}

} // namespace moe::sim

using namespace moe::sim;

extern "C" {

const char *cudaGetErrorName(cudaError_t error) {
  return nameOf(error);
}

const char *cudaGetErrorString(cudaError_t error) {
  return error != cudaSuccess && lastFailure().code == error ? lastFailure().text.c_str() : nameOf(error);
}

cudaError_t cudaGetLastError(void) {
  record("cudaGetLastError");
  return std::exchange(lastFailure().code, cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  record("cudaMemGetInfo");
  *total = settings().memory;
  *free = *total - std::min(*total, usedHere());
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  record("cudaMalloc");
  if (cudaError_t code = refuseInCapture("cudaMalloc"))
    return code;
  *pointer = nullptr;
  if (bytes == 0)
    return cudaSuccess;
  if (bytes > settings().memory - std::min(settings().memory, usedHere()))
    return fail(cudaErrorMemoryAllocation, "out of memory");
  size_t mapped = pages(bytes);
  void *whole = ::mmap(nullptr, mapped + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (whole == MAP_FAILED)
    return fail(cudaErrorMemoryAllocation, "the host that simulates the device is out of memory");
  auto *begin = static_cast<std::byte *>(whole) + kGuard;
  ::mprotect(begin, mapped, PROT_READ | PROT_WRITE);
  std::memset(begin, kFresh, mapped);
  undefinedMemory().add({begin, begin + bytes});
  std::vector<Allocation> &all = memory();
  all.insert(std::ranges::lower_bound(all, begin, {}, &Allocation::begin), {begin, bytes, mapped});
  machine().used += bytes;
  *pointer = begin;
  return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) {
  record("cudaFree");
  if (cudaError_t code = refuseInCapture("cudaFree"))
    return code;
  if (!pointer)
    return cudaSuccess;
  std::vector<Allocation> &all = memory();
  auto found = std::ranges::find(all, static_cast<std::byte *>(pointer), &Allocation::begin);
  if (found == all.end())
    return fail(cudaErrorInvalidValue, "cudaFree of memory that cudaMalloc did not give on this device");
  undefinedMemory().remove({found->begin, found->end()});
  ::munmap(found->begin - kGuard, found->mapped + 2 * kGuard);
  machine().used -= found->bytes;
  all.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned int /*flags*/) {
  record("cudaHostAlloc");
  if (cudaError_t code = refuseInCapture("cudaHostAlloc"))
    return code;
  *pointer = std::aligned_alloc(4096, pages(bytes));
  if (!*pointer)
    return fail(cudaErrorMemoryAllocation, "out of host memory");
  std::memset(*pointer, kFresh, bytes);
  std::scoped_lock lock(machine().mutex);
  machine().pinned.emplace_back(static_cast<std::byte *>(*pointer), bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void *pointer) {
  record("cudaFreeHost");
  if (cudaError_t code = refuseInCapture("cudaFreeHost"))
    return code;
  std::scoped_lock lock(machine().mutex);
  std::erase_if(machine().pinned, [&](const auto &block) { return block.first == pointer; });
  std::free(pointer);
  return cudaSuccess;
}

} // extern "C"
