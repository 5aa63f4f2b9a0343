//===- NcclApi.cpp - The part of NCCL that the backend uses -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/NcclApi.h"

#include "runtime/cuda/Simulated.h"

#include <dlfcn.h>
#include <string>

namespace moe::cuda {
namespace {

/// Graph captures of sends and receives, and aborting what hangs, work in all versions from here on.
constexpr int kOldest = 21800;
constexpr char kLibrary[] = "libnccl.so.2";

Diagnostic absent(std::string why) {
  return {"NCCL, which devices send each other data with, can not be used", kLibrary, std::move(why),
          "install NCCL 2.18 or later (PyPI: nvidia-nccl-cu13) and name its folder in LD_LIBRARY_PATH, or compile the "
          "model for one rank"};
}

Expected<NcclApi> load() {
  NcclApi api;
  if (simulatedNccl(api))
    return api;
  void *library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = ::dlerror();
    return tl::unexpected(absent(why ? why : "it can not be loaded"));
  }
  std::string missing;
  auto find = [&]<typename Function>(Function *&function, const char *name) {
    function = reinterpret_cast<Function *>(::dlsym(library, name));
    if (!function)
      missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
  find(api.getVersion, "ncclGetVersion");
  find(api.getErrorString, "ncclGetErrorString");
  find(api.getUniqueId, "ncclGetUniqueId");
  find(api.commInitRank, "ncclCommInitRank");
  find(api.commDestroy, "ncclCommDestroy");
  find(api.commAbort, "ncclCommAbort");
  find(api.commGetAsyncError, "ncclCommGetAsyncError");
  find(api.groupStart, "ncclGroupStart");
  find(api.groupEnd, "ncclGroupEnd");
  find(api.send, "ncclSend");
  find(api.recv, "ncclRecv");
  find(api.allGather, "ncclAllGather");
  if (!missing.empty())
    return tl::unexpected(absent("it lacks " + missing));
  int version = 0;
  if (api.getVersion(&version) != NcclResult::Success || version < kOldest)
    return tl::unexpected(absent("its version is " + ncclVersionText(version)));
  return api;
}

} // namespace

Expected<const NcclApi *> loadNccl() {
  static const Expected<NcclApi> api = load();
  if (!api)
    return tl::unexpected(api.error());
  return &*api;
}

std::string ncclVersionText(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

} // namespace moe::cuda
