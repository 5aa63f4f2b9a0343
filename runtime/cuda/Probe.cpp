//===- Probe.cpp - Can this machine run a plan for CUDA? ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Probe.h"

#include "runtime/core/Memory.h"
#include "runtime/cuda/Errors.h"
#include "runtime/cuda/NcclApi.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace moe::cuda {
namespace {

/// Of "sm_90" or "sm_100a".
struct Architecture {
  int major = 0, minor = 0;
  bool exact = false; ///< with features that no other device has
};

std::optional<Architecture> parseArchitecture(std::string_view name) {
  if (!name.starts_with("sm_"))
    return {};
  name.remove_prefix(3);
  int number = 0;
  auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), number);
  std::string_view rest = name.substr(static_cast<size_t>(end - name.data()));
  if (code != std::errc() || number < 10 || (!rest.empty() && rest != "a" && rest != "f"))
    return {};
  return Architecture{number / 10, number % 10, !rest.empty()};
}

/// Machine code runs on devices of the same major number and at least the same minor one, PTX on all later ones.
bool runsOn(const Architecture &code, bool isPtx, const DeviceInfo &device) {
  if (code.exact)
    return device.major == code.major && device.minor == code.minor;
  if (device.major != code.major)
    return isPtx && device.major > code.major;
  return device.minor >= code.minor;
}

Diagnostic driverProblem(int driver, int runtime) {
  if (driver == 0)
    return {"there is no NVIDIA driver",
            {},
            "nothing answers when its version is asked for",
            "install the driver, or compile the model with --target cpu"};
  return {"the NVIDIA driver is too old",
          {},
          "it supports CUDA " + versionText(driver) + ", this backend needs " + versionText(runtime),
          "update the driver, or compile the model with --target cpu"};
}

/// Drivers run programs built with later minor versions of the same major one.
bool isDriverUsable(int driver, int runtime) {
  return driver / 1000 >= runtime / 1000;
}

void versions(int &driver, int &runtime) {
  driver = runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess)
    driver = 0;
  static_cast<void>(cudaRuntimeGetVersion(&runtime));
}

} // namespace

std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Expected<DeviceInfo> probeDevice(int localRank) {
  int driver = 0, runtime = 0, count = 0;
  versions(driver, runtime);
  if (!isDriverUsable(driver, runtime))
    return tl::unexpected(driverProblem(driver, runtime));
  cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0))
    return error("there is no CUDA device", {}, "the driver is there, but finds none",
                 "check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or compile the model with --target cpu");
  if (Status status = check(code, "count the CUDA devices"); !status)
    return tl::unexpected(std::move(status.error()));

  DeviceInfo info;
  info.number = localRank % count;
  cudaDeviceProp properties{};
  size_t free = 0, total = 0;
  for (cudaError_t answer : {cudaSetDevice(info.number), cudaGetDeviceProperties(&properties, info.number),
                             cudaDeviceGetAttribute(&info.major, cudaDevAttrComputeCapabilityMajor, info.number),
                             cudaDeviceGetAttribute(&info.minor, cudaDevAttrComputeCapabilityMinor, info.number),
                             cudaMemGetInfo(&free, &total)})
    if (Status status = check(answer, "use the CUDA device"); !status)
      return tl::unexpected(std::move(status.error()));
  info.name = properties.name;
  info.freeBytes = free;
  info.totalBytes = total;
  return info;
}

Status checkTarget(const plan::Plan &plan, const DeviceInfo &device) {
  const std::string &name = plan.target().name();
  std::string own = device.name + " has compute capability " + device.capability();
  const bool isSimulated = device.major == 0;
  const std::string remedy =
      "compile the model with --target cuda:" +
      (isSimulated ? "simulated" : "sm_" + std::to_string(device.major) + std::to_string(device.minor));
  const bool isPtx = std::ranges::all_of(plan.images(), [](const auto &image) { return image.format() == "ptx"; }) &&
                     plan.images_size() > 0;
  std::optional<Architecture> architecture = parseArchitecture(name);
  if (isSimulated != (name == "simulated") ||
      (!isSimulated && (!architecture || !runsOn(*architecture, isPtx, device))))
    return error("this plan was compiled for another device", {}, "it is for '" + name + "'; " + own, remedy);
  for (const plan::Image &image : plan.images())
    if (isSimulated ? image.format() != "host" : image.format() != "cubin" && image.format() != "ptx")
      return error("the plan has code that the CUDA backend can not load", {}, "its format is " + image.format(),
                   remedy);
  return {};
}

Status checkMemory(const plan::Plan &plan, const DeviceInfo &device) {
  uint64_t required = requiredMemory(plan);
  if (required <= device.freeBytes)
    return {};
  std::string classes;
  uint64_t resident = plan.certificate().library_overhead(), scaling = 0;
  for (const plan::Certificate::Class &entry : plan.certificate().classes()) {
    classes += (classes.empty() ? " (" : ", ") + entry.name() + " " + formatBytes(entry.bytes());
    (entry.name() == "step" || entry.name() == "staging" ? scaling : resident) += entry.bytes();
  }
  classes += classes.empty() ? "" : ")";
  // Activations and inputs grow with the batch, everything else does not.
  int64_t batch = plan.training().micro_batch();
  std::string fits = "state and gradients alone do not fit: a device with more memory is needed";
  if (resident < device.freeBytes && batch > 0 && scaling > 0) {
    auto sequences = static_cast<int64_t>(static_cast<double>(device.freeBytes - resident) /
                                          static_cast<double>(scaling) * static_cast<double>(batch));
    if (sequences > 0)
      fits = "compile for a batch of about " + std::to_string(sequences) + " instead of " + std::to_string(batch) +
             ", or with --recompute";
    else
      fits = "compile with --recompute, or use a device with more memory";
  }
  return error("not enough device memory for this plan", {},
               "it needs " + formatBytes(required) + classes + ", and " + formatBytes(device.freeBytes) + " of the " +
                   formatBytes(device.totalBytes) + " of " + device.name + " are free",
               fits);
}

std::vector<DeviceFact> describeCuda() {
  int driver = 0, runtime = 0;
  versions(driver, runtime);
  std::vector<DeviceFact> facts;
  DeviceFact &found =
      facts.emplace_back(DeviceFact{"driver", driver == 0 ? "missing" : "CUDA " + versionText(driver), {}});
  if (!isDriverUsable(driver, runtime)) {
    Diagnostic problem = driverProblem(driver, runtime);
    found.problem = problem.what + ": " + problem.why + "; " + problem.remedy;
  }
  facts.push_back({"runtime", "CUDA " + versionText(runtime), {}});
  size_t version = cublasLtGetVersion();
  facts.push_back({"matrix products",
                   "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
                       std::to_string(version % 100),
                   {}});
  if (!facts.front().problem.empty())
    return facts;
  auto device = probeDevice(0);
  if (!device) {
    facts.push_back(
        {"device", "missing", device.error().what + ": " + device.error().why + "; " + device.error().remedy});
    return facts;
  }
  facts.push_back({"device", device->name, {}});
  std::string capability;
  if (device->major != 0 && device->major < 8)
    capability = "plans are compiled for 8.0 and later; compile the model with --target cpu";
  facts.push_back({"compute capability", device->capability(), capability});
  auto nccl = loadNccl();
  int ncclVersion = 0;
  if (nccl && (*nccl)->getVersion(&ncclVersion) == NcclResult::Success)
    facts.push_back({"collectives", "NCCL " + ncclVersionText(ncclVersion), {}});
  else
    facts.push_back({"collectives", "no NCCL: one rank only", {}});
  facts.push_back({"free memory", formatBytes(device->freeBytes) + " of " + formatBytes(device->totalBytes), {}});
  return facts;
}

} // namespace moe::cuda
