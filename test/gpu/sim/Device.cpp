//===- Device.cpp - Versions, devices and libraries of the simulated device ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Fibers.h"
#include "test/gpu/sim/Simulator.h"
#include "test/gpu/sim/State.h"

#include "runtime/abi/SimulatedDevice.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace moe::sim;

struct CUlib_st {
  void *handle = nullptr;
};

namespace {

constexpr int kRuntimeVersion = 13000;

cudaError_t checkDriver() {
  if (settings().driver < kRuntimeVersion)
    return fail(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version");
  return settings().devices > 0 ? cudaSuccess : fail(cudaErrorNoDevice, "no CUDA-capable device is detected");
}

cudaError_t checkDevice(int device) {
  if (cudaError_t code = checkDriver())
    return code;
  return device >= 0 && device < settings().devices ? cudaSuccess
                                                    : fail(cudaErrorInvalidDevice, "invalid device ordinal");
}

/// Bytes of an ELF file in memory, of which nobody says how long it is.
size_t elfBytes(const unsigned char *code) {
  if (std::memcmp(code, ELFMAG, SELFMAG) != 0 || code[EI_CLASS] != ELFCLASS64)
    return 0;
  Elf64_Ehdr header;
  std::memcpy(&header, code, sizeof(header));
  if (header.e_type != ET_DYN || header.e_machine != EM_X86_64)
    return 0;
  size_t bytes = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
  for (size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, code + header.e_shoff + i * header.e_shentsize, sizeof(section));
    if (section.sh_type != SHT_NOBITS)
      bytes = std::max<size_t>(bytes, section.sh_offset + section.sh_size);
  }
  return bytes;
}

/// Libraries find the functions of runtime/abi/SimulatedDevice.h in whatever object this is part of.
void exportOwnSymbols() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void *>(&moe_sim_barrier), &info) && info.dli_fname)
    ::dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
}

} // namespace

extern "C" {

cudaError_t cudaDriverGetVersion(int *version) {
  record("cudaDriverGetVersion");
  *version = settings().driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  record("cudaRuntimeGetVersion");
  *version = kRuntimeVersion;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
  record("cudaGetDeviceCount");
  *count = settings().devices;
  return checkDriver();
}

cudaError_t cudaSetDevice(int device) {
  record("cudaSetDevice");
  if (cudaError_t code = checkDevice(device))
    return code;
  useDevice(device);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  record("cudaDeviceGetAttribute");
  switch (attribute) {
  case cudaDevAttrComputeCapabilityMajor:
    *value = settings().major;
    break;
  case cudaDevAttrComputeCapabilityMinor:
    *value = settings().minor;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = static_cast<int>(maximumSharedBytes);
    break;
  }
  return checkDevice(device);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  record("cudaGetDeviceProperties");
  std::snprintf(properties->name, sizeof(properties->name), "simulated device");
  properties->totalGlobalMem = settings().memory;
  return checkDevice(device);
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
  record("cudaDeviceGetPCIBusId");
  std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device);
  return checkDevice(device);
}

cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, cudaJitOption * /*jitOptions*/,
                                void ** /*jitOptionsValues*/, unsigned int /*numJitOptions*/,
                                cudaLibraryOption * /*libraryOptions*/, void ** /*libraryOptionValues*/,
                                unsigned int /*numLibraryOptions*/) {
  record("cudaLibraryLoadData");
  if (cudaError_t refused = refuseInCapture("cudaLibraryLoadData"))
    return refused;
  size_t bytes = elfBytes(static_cast<const unsigned char *>(code));
  if (bytes == 0)
    return fail(cudaErrorInvalidKernelImage, "device kernel image is invalid: no shared object for x86-64");
  int file = ::memfd_create("kernels", MFD_CLOEXEC);
  if (file < 0 || ::write(file, code, bytes) != static_cast<ssize_t>(bytes)) {
    if (file >= 0)
      ::close(file);
    return fail(cudaErrorMemoryAllocation, "no memory for a library");
  }
  exportOwnSymbols();
  void *handle = ::dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
  const char *why = handle ? nullptr : ::dlerror();
  ::close(file);
  if (!handle)
    return fail(cudaErrorInvalidKernelImage, std::string("device kernel image is invalid: ") + (why ? why : ""));
  *library = new CUlib_st{handle};
  return cudaSuccess;
}

cudaError_t cudaLibraryUnload(cudaLibrary_t library) {
  record("cudaLibraryUnload");
  ::dlclose(library->handle);
  delete library;
  return cudaSuccess;
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name) {
  record("cudaLibraryGetKernel");
  *kernel = static_cast<cudaKernel_t>(::dlsym(library->handle, name));
  return *kernel ? cudaSuccess : fail(cudaErrorSymbolNotFound, std::string("named symbol not found: ") + name);
}

} // extern "C"
