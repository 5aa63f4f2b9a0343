//===- Communicator.h - Bytes between ranks -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// One primitive is all that communicators have to offer: a group of ranks in which each sends each other one block of
// bytes. Gathering, exchanging and reducing are built on it once (runtime/cpu/Collective.h), so that all communicators
// give the same bits: what is summed up is summed up by us, in the order of the group.
//
// Every wait ends: when what it waits for has come, when its deadline is over, or when another rank has given up. In
// the last two cases the communicator is of no more use; all that is left is to say so and to end the run.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_COMM_COMMUNICATOR_H
#define MOEC_RUNTIME_COMM_COMMUNICATOR_H

#include "runtime/core/Diagnostic.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace moe {

struct CommOptions {
  /// Longest wait for another rank, in seconds.
  double deadline = 600;
  /// Whether the user wants the run to end. A wait that then does not end soon says through `report` what it waits for,
  /// once, and goes on. Both may be empty.
  std::function<bool()> interrupted = {};
  std::function<void(const std::string &)> report = {};
};

using SendBlock = std::span<const std::byte>;
using ReceiveBlock = std::span<std::byte>;

/// Some ranks in an order. Used by one thread at a time.
class Group {
public:
  virtual ~Group() = default;

  int size() const { return static_cast<int>(ranks.size()); }
  /// Number of this rank in the group.
  int index() const { return own; }
  const std::vector<int> &members() const { return ranks; }

  /// Sends `sends[i]` to member i and receives `receives[i]` from it; both have an entry for each member, this one
  /// included, and the two ends of a transfer have the same size. All members call this in the same order. On return
  /// all of this rank's blocks may be overwritten. Blocks that are received overlap no other block, but for this rank's
  /// own, which may be the same twice.
  ///
  /// `what` says where the caller is, for people; it is read during the call only. Errors: a deadline is over, another
  /// rank has given up, the network fails.
  virtual Status exchange(std::span<const SendBlock> sends, std::span<const ReceiveBlock> receives,
                          const char *what) = 0;

protected:
  Group(std::vector<int> members, int rank);

  std::vector<int> ranks;
  int own = 0;
};

/// What one rank knows of the others. Outlives its groups. The calls of one rank come from one thread at a time.
class Communicator {
public:
  virtual ~Communicator() = default;

  int rank() const { return ownRank; }
  int size() const { return count; }
  /// Ranks whose memory is that of this process, this one included.
  virtual int ranksOfProcess() const = 0;
  /// Number of this rank among those of its machine.
  virtual int localRank() const = 0;
  virtual const CommOptions &options() const = 0;
  /// The error of a wait in `what` if another rank has given up, as far as is known without waiting.
  virtual std::optional<Diagnostic> ended(const char *what) const = 0;

  /// A group of different ranks, this one among them; all of them make the same one. Sends nothing.
  virtual std::unique_ptr<Group> group(std::vector<int> members) = 0;
  /// All ranks, in order.
  std::unique_ptr<Group> all();

  /// Makes this rank's end known to the others, whose waits end with an error. Where that takes the end of this process
  /// it does not return, hence whatever is to be said is said before.
  virtual void giveUp(const Diagnostic &why) = 0;

  /// The update that runs, for errors.
  void setUpdate(int64_t number) { update.store(number, std::memory_order_relaxed); }

  /// Errors of a wait in `what` (see Group::exchange): `missing` have not come in `seconds`; another rank has given up.
  Diagnostic waitedInVain(const std::vector<int> &missing, double seconds, const char *what) const;
  Diagnostic otherGaveUp(int rank, const std::string &why, const char *what) const;
  /// The error of a device that waits for one of `peers`, nobody knows which.
  Diagnostic deviceWaitedInVain(const std::vector<int> &peers, double seconds, const char *what) const;
  /// What a wait that goes on says to a user who wants the run to end.
  std::string stillWaiting(const std::vector<int> &missing, const char *what) const;

protected:
  Communicator(int rank, int size) : ownRank(rank), count(size) {}

private:
  std::string place(const char *what) const;

  int ownRank;
  int count;
  std::atomic<int64_t> update = -1;
};

/// Tells a user who wants the run to end what one wait is for, once, if the wait does not end soon after. Launchers
/// kill soon after they ask. Created when the wait begins.
class InterruptedWait {
public:
  explicit InterruptedWait(const Communicator &communicator) : communicator(communicator) {}

  /// Called between two looks at what is waited for, some times a second; `missing()` are the ranks that it waits for.
  template <typename Missing> void look(Missing &&missing, const char *what) {
    if (isDue())
      communicator.options().report(communicator.stillWaiting(missing(), what));
  }

private:
  /// True once.
  bool isDue();

  using Clock = std::chrono::steady_clock;

  const Communicator &communicator;
  Clock::time_point interrupted = Clock::time_point::max();
  bool reported = false;
};

} // namespace moe

#endif // MOEC_RUNTIME_COMM_COMMUNICATOR_H
