//===- Work.cpp - Copies, fills and launches on the simulated device ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/abi/SimulatedDevice.h"
#include "test/gpu/sim/State.h"
#include "test/gpu/sim/Streams.h"
#include "test/gpu/sim/Undefined.h"

#include <cstring>
#include <map>

using namespace moe::sim;

namespace {

/// Dynamic shared memory that a kernel gets without asking (cudaFuncSetAttribute).
constexpr size_t kOrdinarySharedBytes = 48 << 10;

std::map<const void *, size_t> &sharedLimits() {
  thread_local std::map<const void *, size_t> map;
  return map;
}

cudaError_t allowShared(const void *kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > maximumSharedBytes)
    return fail(cudaErrorInvalidValue, "a kernel can not have " + std::to_string(value) + " bytes of shared memory");
  sharedLimits()[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

/// What is wrong with the sides of a copy; empty if nothing is.
std::string checkCopy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  bool toDevice = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool fromDevice = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault)
    return "the simulated device wants to be told the direction of a copy";
  if (toDevice != (findDevice(to, bytes) != nullptr))
    return toDevice ? "the destination is not device memory" : "the destination is device memory";
  if (fromDevice != (findDevice(from, bytes) != nullptr))
    return fromDevice ? "the source is not device memory" : "the source is device memory";
  return {};
}

/// What undefined bytes are to the host: NaN, -1.
constexpr int kUndefinedByte = 0xFF;

Undefined::Bytes deviceBytes(const void *address, size_t bytes) {
  auto *begin = static_cast<std::byte *>(const_cast<void *>(address));
  return {begin, begin + bytes};
}

void fill(void *to, int value, size_t bytes) {
  std::memset(to, value, bytes);
  undefinedMemory().remove(deviceBytes(to, bytes));
}

void copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  std::memmove(to, from, bytes);
  std::vector<Undefined::Bytes> undefined;
  if (kind != cudaMemcpyHostToDevice)
    undefined = undefinedMemory().within(deviceBytes(from, bytes));
  if (kind != cudaMemcpyDeviceToHost)
    undefinedMemory().remove(deviceBytes(to, bytes));
  for (const Undefined::Bytes &part : undefined) {
    std::byte *begin = static_cast<std::byte *>(to) + (part.begin - static_cast<const std::byte *>(from));
    if (kind == cudaMemcpyDeviceToHost)
      std::memset(begin, kUndefinedByte, static_cast<size_t>(part.end - part.begin));
    else
      undefinedMemory().add({begin, begin + (part.end - part.begin)});
  }
}

/// A launch as a graph keeps it: the arguments are copied.
class Launch {
public:
  Launch(Kernel kernel, const std::vector<uint32_t> &sizes, void **source, uint32_t blocks, uint32_t threads,
         size_t sharedBytes)
      : kernel(kernel), blocks(blocks), threads(threads), sharedBytes(sharedBytes) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      values.emplace_back((sizes[i] + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
      std::memcpy(values.back().data(), source[i], sizes[i]);
    }
  }

  std::string operator()(const RunMode &mode) const {
    std::vector<void *> pointers;
    pointers.reserve(values.size());
    for (const auto &value : values)
      pointers.push_back(const_cast<std::max_align_t *>(value.data()));
    return runGrid(kernel, pointers.data(), blocks, threads, sharedBytes, mode.order, mode.garbage);
  }

private:
  Kernel kernel;
  uint32_t blocks, threads;
  size_t sharedBytes;
  std::vector<std::vector<std::max_align_t>> values;
};

} // namespace

extern "C" {

void moe_sim_kernel_words(const void *kernel, uint32_t count) {
  std::vector<uint32_t> sizes(count, sizeof(void *));
  moe_sim_kernel_parameters(reinterpret_cast<Kernel>(const_cast<void *>(kernel)), sizes.data(), count);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  record("cudaMemcpy");
  if (cudaError_t code = refuseInCapture("cudaMemcpy"))
    return code;
  if (cudaError_t code = cudaDeviceSynchronize())
    return code;
  if (bytes == 0)
    return cudaSuccess;
  if (std::string problem = checkCopy(to, from, bytes, kind); !problem.empty())
    return fail(cudaErrorInvalidValue, "cudaMemcpy: " + problem);
  copy(to, from, bytes, kind);
  return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) {
  record("cudaMemset");
  if (cudaError_t code = refuseInCapture("cudaMemset"))
    return code;
  if (bytes > 0 && !findDevice(to, bytes))
    return fail(cudaErrorInvalidValue, "cudaMemset of memory that is not the device's");
  if (bytes > 0)
    fill(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  record("cudaMemcpyAsync");
  if (bytes == 0)
    return cudaSuccess;
  if (std::string problem = checkCopy(to, from, bytes, kind); !problem.empty())
    return fail(cudaErrorInvalidValue, "cudaMemcpyAsync: " + problem);
  const void *host = kind == cudaMemcpyHostToDevice ? from : kind == cudaMemcpyDeviceToHost ? to : nullptr;
  if (host && isCaptured(stream) && !isPinned(host, bytes))
    return invalidate(stream, "cudaMemcpyAsync of pageable memory");
  return enqueue(stream, {.name = "a copy", .run = [=](const RunMode &) {
                            copy(to, from, bytes, kind);
                            return std::string();
                          }});
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  record("cudaMemsetAsync");
  if (bytes == 0)
    return cudaSuccess;
  if (!findDevice(to, bytes))
    return fail(cudaErrorInvalidValue, "cudaMemsetAsync of memory that is not the device's");
  return enqueue(stream, {.name = "a fill", .run = [=](const RunMode &) {
                            fill(to, value, bytes);
                            return std::string();
                          }});
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, cudaFuncAttribute attribute, int value,
                                            int /*device*/) {
  record("cudaKernelSetAttributeForDevice");
  return allowShared(kernel, attribute, value);
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value) {
  record("cudaFuncSetAttribute");
  return allowShared(function, attribute, value);
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t sharedBytes,
                             cudaStream_t stream) {
  record("cudaLaunchKernel");
  auto kernel = reinterpret_cast<Kernel>(const_cast<void *>(function));
  auto sizes = kernelParameters(kernel);
  if (!sizes)
    return fail(cudaErrorInvalidDeviceFunction, "cudaLaunchKernel of something that is no kernel");
  std::string name = "kernel " + kernelName(kernel);
  if (grid.x == 0 || grid.y != 1 || grid.z != 1 || block.x == 0 || block.x > maximumThreads || block.y != 1 ||
      block.z != 1)
    return fail(cudaErrorInvalidConfiguration,
                name + ": " + std::to_string(grid.x) + " blocks of " + std::to_string(block.x) + " threads");
  auto limit = sharedLimits().find(function);
  if (sharedBytes > (limit == sharedLimits().end() ? kOrdinarySharedBytes : limit->second))
    return fail(cudaErrorInvalidValue,
                name + ": more shared memory than it was allowed, " + std::to_string(sharedBytes) + " bytes");
  return enqueue(
      stream, {.name = name, .computes = true, .run = Launch(kernel, *sizes, arguments, grid.x, block.x, sharedBytes)});
}

} // extern "C"
