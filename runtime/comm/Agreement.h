//===- Agreement.h - What all ranks know after they have talked ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_COMM_AGREEMENT_H
#define MOEC_RUNTIME_COMM_AGREEMENT_H

#include "runtime/comm/Communicator.h"

#include <cstdint>

namespace moe {

/// Outcome of something that each rank has done by itself.
struct Agreed {
  /// The same on all ranks: success if all had success, else the error of the first rank that had one, which then says
  /// which rank it is of.
  Status status;
  /// The ranks could talk. Otherwise `status` is this rank's own reason why not.
  bool heard = true;
};

/// All ranks say how something has ended; see Agreed. Long texts are cut.
Agreed agree(Group &all, const Status &own, const char *what);

/// True on all ranks if it is true on one.
Expected<bool> anyOf(Group &all, bool own, const char *what);

/// Every rank's number, in order.
Expected<std::vector<uint64_t>> gatherNumbers(Group &all, uint64_t own, const char *what);

} // namespace moe

#endif // MOEC_RUNTIME_COMM_AGREEMENT_H
