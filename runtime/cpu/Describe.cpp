//===- Describe.cpp - What this machine has for the CPU backend ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Describe.h"

#include "runtime/cpu/CpuFeatures.h"
#include "runtime/cpu/Gemm.h"

#include <fstream>
#include <sched.h>
#include <string>

namespace moe::cpu {
namespace {

std::string modelName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name"))
      if (size_t at = line.find(": "); at != std::string::npos)
        return line.substr(at + 2);
  return "unknown";
}

std::string usableProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::to_string(CPU_COUNT(&set)) : "unknown";
}

} // namespace

std::vector<DeviceFact> describeCpu() {
  std::string names;
  for (std::string_view name : cpuFeatures())
    names += (names.empty() ? "" : " ") + std::string(name);
  std::string problem;
  if (cpuSupports("avx2") != Support::Yes)
    problem = "without avx2 attention and products are several times slower; only plans for x86-64 or x86-64-v2 run";
  else if (cpuSupports("avx512f") != Support::Yes)
    problem = "plans for x86-64-v4 do not run here; compile with --target cpu:native or cpu:x86-64-v3";
  return {{"processor", modelName(), {}},
          {"usable processors", usableProcessors(), {}},
          {"features", names.empty() ? "unknown" : names, problem},
          {"matrix products", gemmLibrary(), {}}};
}

} // namespace moe::cpu
