//===- Memory.h - How much memory may this process still use? -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_MEMORY_H
#define MOEC_RUNTIME_CORE_MEMORY_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moe {

/// Bytes that this process could still make resident: the kernel's estimate (MemAvailable), or what is left of the
/// control group's limit if that is less. Nothing if the system does not say.
std::optional<uint64_t> availableMemory();

/// The value in bytes of line `key` of text in the format of /proc/meminfo ("MemAvailable:   123 kB").
std::optional<uint64_t> meminfoBytes(std::string_view text, std::string_view key);

/// Bytes of one rank: what the certificate says (or the sum of the arenas if that is more) and the library overhead.
uint64_t requiredMemory(const plan::Plan &plan);

/// "1.50 GiB", "512 B".
std::string formatBytes(uint64_t bytes);

} // namespace moe

#endif // MOEC_RUNTIME_CORE_MEMORY_H
