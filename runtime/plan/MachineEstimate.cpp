//===- MachineEstimate.cpp - How long steps take, roughly -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/MachineEstimate.h"

#include <algorithm>
#include <cmath>

namespace moe {

namespace {

constexpr double kPicoseconds = 1e12;
constexpr double kGpuLink = 50e9;

int64_t picoseconds(double seconds) {
  return std::llround(seconds * kPicoseconds);
}

} // namespace

MachineEstimate MachineEstimate::of(std::string_view target, int64_t threads) {
  const auto cores = static_cast<double>(std::max<int64_t>(threads, 1));
  // Data sheets of A100 80GB, H100 SXM and B200: dense bfloat16 and float32 FLOP/s, bytes/s of memory.
  if (target == "cuda:sm_80")
    return {150e12, 10e12, 1.6e12, kGpuLink, 3e-6, 20e-6};
  if (target == "cuda:sm_100")
    return {1100e12, 40e12, 6.4e12, kGpuLink, 3e-6, 20e-6};
  if (target.starts_with("cuda:"))
    return {490e12, 33e12, 2.6e12, kGpuLink, 3e-6, 20e-6};
  MachineEstimate host;
  host.narrowFlops = host.wideFlops = host.wideFlops * cores;
  return host;
}

int64_t MachineEstimate::computing(double flops, double bytes, bool narrow) const {
  return picoseconds(std::max(flops / (narrow ? narrowFlops : wideFlops), bytes / memory) + step);
}

int64_t MachineEstimate::sending(double bytes) const {
  return picoseconds(bytes / link + collective);
}

} // namespace moe
