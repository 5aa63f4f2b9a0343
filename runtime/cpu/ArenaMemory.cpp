//===- ArenaMemory.cpp - The memory of one arena ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/ArenaMemory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace moe::cpu {
namespace {

constexpr uint64_t kHugePage = 2u << 20;

uint64_t roundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

} // namespace

Expected<ArenaMemory> ArenaMemory::create(uint64_t bytes, uint64_t alignment, bool guard) {
  uint64_t page = ::sysconf(_SC_PAGESIZE);
  bool huge = !guard && bytes >= kHugePage;
  uint64_t room = std::max({alignment, page, huge ? kHugePage : 0});
  uint64_t mappedBytes = 0;
  if (__builtin_add_overflow(bytes, 2 * room + 4 * page, &mappedBytes))
    return error("cannot allocate an arena", {}, "its size is " + std::to_string(bytes) + " bytes");
  mappedBytes = mappedBytes / page * page;

  void *mapping = ::mmap(nullptr, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return error("cannot allocate an arena of " + std::to_string(bytes) + " bytes", {}, std::strerror(errno),
                 "compile for a smaller batch, or run on a machine with more memory");
  auto start = reinterpret_cast<uintptr_t>(mapping);
  uintptr_t begin = roundUp(start + page, room);
  if (guard) {
    // The end of the arena is what a kernel overruns: move the arena up against a page border.
    uintptr_t end = roundUp(begin + bytes, page);
    begin = (end - bytes) / alignment * alignment;
    uintptr_t front = begin / page * page - page;
    if (::mprotect(reinterpret_cast<void *>(end), page, PROT_NONE) != 0 ||
        ::mprotect(reinterpret_cast<void *>(front), page, PROT_NONE) != 0) {
      std::string why = std::strerror(errno);
      ::munmap(mapping, mappedBytes);
      return error("cannot guard an arena", {}, why);
    }
  } else if (huge) {
    ::madvise(reinterpret_cast<void *>(begin), bytes, MADV_HUGEPAGE); // only a hint: failure costs speed alone
  }
  return ArenaMemory(mapping, mappedBytes, reinterpret_cast<std::byte *>(begin), bytes);
}

ArenaMemory::ArenaMemory(ArenaMemory &&other) noexcept
    : mapping(std::exchange(other.mapping, nullptr)), mappedBytes(other.mappedBytes), begin(other.begin),
      bytes(other.bytes) {}

ArenaMemory &ArenaMemory::operator=(ArenaMemory &&other) noexcept {
  std::swap(mapping, other.mapping);
  std::swap(mappedBytes, other.mappedBytes);
  std::swap(begin, other.begin);
  std::swap(bytes, other.bytes);
  return *this;
}

ArenaMemory::~ArenaMemory() {
  if (mapping)
    ::munmap(mapping, mappedBytes);
}

} // namespace moe::cpu
