//===- MemoryUsage.cpp - Memory that the process really holds ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/MemoryUsage.h"

#include <cstdio>

namespace moe {

int64_t residentBytes() {
  std::FILE *file = std::fopen("/proc/self/status", "re");
  if (!file)
    return 0;
  char line[256];
  int64_t total = 0;
  while (std::fgets(line, sizeof(line), file)) {
    long long kilobytes = 0;
    if (std::sscanf(line, "RssAnon: %lld kB", &kilobytes) == 1 ||
        std::sscanf(line, "RssShmem: %lld kB", &kilobytes) == 1)
      total += kilobytes * 1024;
  }
  std::fclose(file);
  return total;
}

} // namespace moe
