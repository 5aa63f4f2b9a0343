//===- MemoryUsage.h - Memory that the process really holds ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_LOG_MEMORYUSAGE_H
#define MOEC_RUNTIME_LOG_MEMORYUSAGE_H

#include <cstdint>

namespace moe {

/// Resident bytes that are not pages of mapped files: RssAnon + RssShmem of /proc/self/status. 0 if that cannot be
/// read.
int64_t residentBytes();

} // namespace moe

#endif // MOEC_RUNTIME_LOG_MEMORYUSAGE_H
