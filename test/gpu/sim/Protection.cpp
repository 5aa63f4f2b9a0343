//===- Protection.cpp - Memory that a step may not touch ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Protection.h"

#include "test/gpu/sim/State.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <utility>

namespace moe::sim {
namespace {

/// What the signal handler knows and finds; a thread runs one step at a time.
struct Watch {
  bool active = false;
  const std::vector<Allocation> *memory = nullptr; ///< of the thread's device
  void *address = nullptr;                         ///< of the first violation
  bool write = false;
  std::array<std::byte *, 4096> strays = {}; ///< pages mapped far from all allocations, for accesses to go on
  size_t strayCount = 0;
};
thread_local Watch watch;

/// The handler is there as long as any thread watches.
std::mutex handlerMutex;
int watching = 0;
struct sigaction previous;

size_t pageSize() {
  static const auto size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::byte *pageOf(std::byte *address) {
  return address - reinterpret_cast<uintptr_t>(address) % pageSize();
}

bool isWrite([[maybe_unused]] void *context) {
#if defined(__x86_64__)
  return (static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
  return false;
#endif
}

void note(std::byte *address, void *context) {
  if (watch.address)
    return;
  watch.address = address;
  watch.write = isWrite(context);
}

/// An access far away, by an index that is garbage say, meets a page of its own.
bool mapStray(std::byte *address) {
  if (!address || watch.strayCount == watch.strays.size())
    return false;
  std::byte *page = pageOf(address);
  void *mapped =
      ::mmap(page, pageSize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (mapped == MAP_FAILED)
    return false;
  if (mapped != page) { // kernels that do not know the flag
    ::munmap(mapped, pageSize());
    return false;
  }
  watch.strays[watch.strayCount++] = page;
  return true;
}

void onFault(int /*signal*/, siginfo_t *info, void *context) {
  auto *address = static_cast<std::byte *>(info->si_addr);
  if (watch.active) {
    for (const Allocation &allocation : *watch.memory)
      if (address + kGuard >= allocation.begin && address < allocation.end() + kGuard) {
        note(address, context);
        if (::mprotect(pageOf(address), pageSize(), PROT_READ | PROT_WRITE) == 0)
          return;
      }
    if (mapStray(address))
      return note(address, context);
  }
  // Not ours: the instruction runs once more, and into whoever was there before.
  ::sigaction(SIGSEGV, &previous, nullptr);
}

void protect(std::byte *begin, std::byte *end, int protection) {
  if (begin < end)
    ::mprotect(begin, static_cast<size_t>(end - begin), protection);
}

} // namespace

Protection::Protection(std::span<const Range> ranges) {
  for (const Allocation &allocation : deviceMemory()) {
    std::vector<Range> inside;
    std::vector<std::byte *> pageCuts;
    for (const Range &range : ranges)
      if (range.begin < range.end && range.begin >= allocation.begin && range.end <= allocation.end()) {
        inside.push_back(range);
        pageCuts.insert(pageCuts.end(), {pageOf(range.begin), pageOf(range.end - 1) + pageSize()});
      }
    std::ranges::sort(pageCuts);
    // Between neighbouring cuts all pages have the same kind of access.
    for (size_t i = 0; i + 1 < pageCuts.size(); ++i) {
      Pages span = {pageCuts[i], pageCuts[i + 1], false};
      std::vector<Range> here;
      for (const Range &range : inside)
        if (range.begin < span.end && range.end > span.begin) {
          here.push_back(range);
          span.written |= range.written;
        }
      if (here.empty() || span.begin == span.end)
        continue;
      pages.push_back(span);
      std::vector<std::byte *> cuts = {span.begin, span.end};
      for (const Range &range : here)
        cuts.insert(cuts.end(), {std::max(range.begin, span.begin), std::min(range.end, span.end)});
      std::ranges::sort(cuts);
      for (size_t c = 0; c + 1 < cuts.size(); ++c) {
        bool declared = false, writable = false;
        for (const Range &range : here)
          if (range.begin <= cuts[c] && range.end >= cuts[c + 1]) {
            declared = true;
            writable |= range.written;
          }
        if (cuts[c] < cuts[c + 1] && (!declared || (span.written && !writable)))
          bytes.push_back({cuts[c], cuts[c + 1], declared});
      }
    }
  }
}

void Protection::arm() {
  for (const Allocation &allocation : deviceMemory())
    protect(allocation.begin, allocation.end(), PROT_NONE);
  for (const Pages &span : pages)
    protect(span.begin, span.end, span.written ? PROT_READ | PROT_WRITE : PROT_READ);
  watch.active = true;
  watch.memory = &deviceMemory();
  watch.address = nullptr;
  std::scoped_lock lock(handlerMutex);
  if (watching++ > 0)
    return;
  struct sigaction action = {};
  action.sa_sigaction = onFault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaction(SIGSEGV, &action, &previous);
}

void Protection::disarm() {
  if (!std::exchange(watch.active, false))
    return;
  {
    std::scoped_lock lock(handlerMutex);
    if (--watching == 0)
      ::sigaction(SIGSEGV, &previous, nullptr);
  }
  for (size_t i = 0; i < watch.strayCount; ++i)
    ::munmap(watch.strays[i], pageSize());
  watch.strayCount = 0;
  for (const Allocation &allocation : deviceMemory()) {
    protect(allocation.begin, allocation.end(), PROT_READ | PROT_WRITE);
    if (watch.address) { // a guard may have been opened
      protect(allocation.begin - kGuard, allocation.begin, PROT_NONE);
      protect(allocation.end(), allocation.end() + kGuard, PROT_NONE);
    }
  }
}

std::string Protection::violation() const {
  return watch.address ? std::string(watch.write ? "writes" : "reads") + " what it does not declare to " +
                             (watch.write ? "write" : "read") + ", at " + describeAddress(watch.address)
                       : std::string();
}

} // namespace moe::sim
