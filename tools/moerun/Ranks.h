//===- Ranks.h - The ranks of a run -------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A command that runs on many ranks is one function that each of them executes. What may fail on one rank alone, such
// as reading its data, is followed by `agree`, so that all ranks end together and one message says why.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_RANKS_H
#define MOEC_TOOLS_MOERUN_RANKS_H

#include "runtime/comm/Agreement.h"
#include "runtime/comm/Communicator.h"
#include "tools/moerun/CommandLine.h"

#include <functional>
#include <memory>

namespace moe {

/// One rank, as a command sees it. Used by one thread.
class Rank {
public:
  /// The only one.
  Rank() = default;
  /// One of the communicator's, which outlives it.
  explicit Rank(Communicator &communicator) : link(&communicator), all(communicator.all()) {}

  /// Null if there is one rank.
  Communicator *communicator() const { return link; }
  int index() const { return link ? link->rank() : 0; }
  int size() const { return link ? link->size() : 1; }
  bool isFirst() const { return index() == 0; }

  /// Success on all ranks if all had success, else the first error on all of them; `what` is a literal that says what
  /// has been done.
  Status agree(Status own, const char *what);
  /// The same for something that has a value.
  template <typename T> Expected<T> agree(Expected<T> own, const char *what) {
    Status status = agree(own ? Status() : Status(tl::unexpected(own.error())), what);
    if (!status)
      return tl::unexpected(std::move(status.error()));
    return own;
  }
  /// True on all ranks if it is true on one.
  Expected<bool> anyOf(bool own, const char *what);
  /// The first rank whose number is not that of rank 0; -1 if there is none.
  Expected<int> firstOther(uint64_t own, const char *what);

  /// Whether all ranks have the error that ends the command, so that one of them tells it for all.
  bool hasAgreed() const { return agreed; }

private:
  Communicator *link = nullptr;
  std::unique_ptr<Group> all;
  bool agreed = false;
};

using RankedCommand = std::function<Status(const Arguments &arguments, Rank &rank)>;

/// Runs a command on the ranks that its flags (--ranks, --deadline) and the environment ask for: this process as one of
/// a launcher's, or threads of it, or alone. Prints errors; returns the exit code.
int runOnRanks(const RankedCommand &command, const Arguments &arguments);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_RANKS_H
