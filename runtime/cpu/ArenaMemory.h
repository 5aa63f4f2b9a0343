//===- ArenaMemory.h - The memory of one arena --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_ARENAMEMORY_H
#define MOEC_RUNTIME_CPU_ARENAMEMORY_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <cstdint>

namespace moe::cpu {

/// Zeroed memory that becomes resident when first touched, and is given back to the system on destruction.
class ArenaMemory {
public:
  /// Maps `bytes` at a multiple of `alignment` (a power of two up to 2 MiB). With `guard`, the arena ends as close to
  /// an inaccessible page as its alignment allows and begins at most a page behind another one, so that an access
  /// outside it faults; otherwise large arenas may use huge pages.
  static Expected<ArenaMemory> create(uint64_t bytes, uint64_t alignment, bool guard);
  ArenaMemory(ArenaMemory &&other) noexcept;
  ArenaMemory &operator=(ArenaMemory &&other) noexcept;
  ~ArenaMemory();

  std::byte *data() const { return begin; }
  uint64_t size() const { return bytes; }

private:
  ArenaMemory(void *mapping, uint64_t mappedBytes, std::byte *begin, uint64_t bytes)
      : mapping(mapping), mappedBytes(mappedBytes), begin(begin), bytes(bytes) {}

  void *mapping = nullptr;
  uint64_t mappedBytes = 0;
  std::byte *begin = nullptr;
  uint64_t bytes = 0;
};

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_ARENAMEMORY_H
