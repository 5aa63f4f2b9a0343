//===- ThreadRanks.h - Ranks that are threads of one process ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_COMM_THREADRANKS_H
#define MOEC_RUNTIME_COMM_THREADRANKS_H

#include "runtime/comm/Communicator.h"

#include <memory>

namespace moe {

/// Communicators of `size` ranks, one for each, that read each other's memory. They may be used by different threads.
std::vector<std::unique_ptr<Communicator>> makeThreadRanks(int size, const CommOptions &options);

} // namespace moe

#endif // MOEC_RUNTIME_COMM_THREADRANKS_H
