//===- Memory.cpp - How much memory may this process still use? ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Memory.h"

#include "runtime/plan/Structure.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace moe {
namespace {

std::string readText(const std::string &path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::optional<uint64_t> number(std::string_view text) {
  size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos)
    return {};
  uint64_t value = 0;
  auto [end, code] = std::from_chars(text.data() + begin, text.data() + text.size(), value);
  return code == std::errc() ? std::optional(value) : std::nullopt;
}

/// What is left of the limit of this process's control group (version 2): limit - (use - page cache that can go).
std::optional<uint64_t> controlGroupRest() {
  std::string self = readText("/proc/self/cgroup"); // "0::/path"
  size_t begin = self.find("0::");
  if (begin == std::string::npos)
    return {};
  size_t end = self.find('\n', begin);
  std::string folder = "/sys/fs/cgroup" + self.substr(begin + 3, end - begin - 3);
  std::optional<uint64_t> limit = number(readText(folder + "/memory.max")); // "max" if there is none
  std::optional<uint64_t> used = number(readText(folder + "/memory.current"));
  if (!limit || !used)
    return {};
  std::string statistics = readText(folder + "/memory.stat");
  uint64_t cache = 0;
  if (size_t at = statistics.find("inactive_file "); at != std::string::npos)
    cache = number(std::string_view(statistics).substr(at + 14)).value_or(0);
  uint64_t held = *used - std::min(*used, cache);
  return *limit - std::min(*limit, held);
}

} // namespace

std::optional<uint64_t> meminfoBytes(std::string_view text, std::string_view key) {
  std::string label = "\n" + std::string(key) + ":";
  std::string whole = "\n" + std::string(text);
  size_t at = whole.find(label);
  if (at == std::string::npos)
    return {};
  std::optional<uint64_t> value = number(std::string_view(whole).substr(at + label.size()));
  return value ? std::optional(*value * 1024) : std::nullopt;
}

std::optional<uint64_t> availableMemory() {
  std::optional<uint64_t> machine = meminfoBytes(readText("/proc/meminfo"), "MemAvailable");
  std::optional<uint64_t> group = controlGroupRest();
  if (machine && group)
    return std::min(*machine, *group);
  return machine ? machine : group;
}

uint64_t requiredMemory(const plan::Plan &plan) {
  uint64_t arenas = 0;
  for (const plan::Arena &arena : plan.arenas())
    arenas = saturatingSum(arenas, arena.bytes());
  return saturatingSum(std::max<uint64_t>(arenas, plan.certificate().total()), plan.certificate().library_overhead());
}

std::string formatBytes(uint64_t bytes) {
  constexpr std::array<const char *, 7> units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit)
    value /= 1024;
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
  return text.data();
}

} // namespace moe
