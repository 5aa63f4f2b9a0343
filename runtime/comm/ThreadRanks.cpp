//===- ThreadRanks.cpp - Ranks that are threads of one process ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The members of a group meet twice per exchange: when all have said where their blocks lie, each copies what it gets;
// when all have copied, each may overwrite its blocks.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/ThreadRanks.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <sched.h>

namespace moe {
namespace {

using Clock = std::chrono::steady_clock;

/// Whoever waits looks again and again for this long before it sleeps, since waking costs about as much.
constexpr auto kBusy = std::chrono::microseconds(50);
/// Waits look up this often whether the run has ended elsewhere. Those who come to a meeting wake each other.
constexpr auto kLookUp = std::chrono::milliseconds(50);

/// Where the members of one group meet.
struct Meeting {
  explicit Meeting(size_t size) : arrivals(size), sends(size) {}

  std::mutex mutex;
  std::condition_variable wake;
  size_t present = 0;
  std::atomic<uint64_t> held = 0;                ///< meetings to which all have come
  std::vector<uint64_t> arrivals;                ///< meetings to which each member has come
  std::vector<std::span<const SendBlock>> sends; ///< of each member; written before it comes, read by all afterwards
};

class Hub {
public:
  explicit Hub(CommOptions options) : options(std::move(options)) {}

  const CommOptions options;

  std::shared_ptr<Meeting> meeting(const std::vector<int> &members) {
    std::lock_guard lock(mutex);
    std::shared_ptr<Meeting> &found = meetings[members];
    if (!found)
      found = std::make_shared<Meeting>(members.size());
    return found;
  }

  /// The first one to give up is what all others hear of.
  void giveUp(int rank, const std::string &why) {
    std::lock_guard lock(mutex);
    if (ended)
      return;
    endedBy = rank;
    endedWhy = why;
    ended = true;
  }
  bool hasEnded() const { return ended; }
  std::pair<int, std::string> end() {
    std::lock_guard lock(mutex);
    return {endedBy, endedWhy};
  }

private:
  std::mutex mutex;
  std::map<std::vector<int>, std::shared_ptr<Meeting>> meetings;
  std::atomic<bool> ended = false;
  int endedBy = -1;
  std::string endedWhy;
};

class ThreadGroup final : public Group {
public:
  ThreadGroup(std::vector<int> members, Communicator &communicator, Hub &hub, std::shared_ptr<Meeting> meeting)
      : Group(std::move(members), communicator.rank()), communicator(communicator), hub(hub),
        meeting(std::move(meeting)) {}

  Status exchange(std::span<const SendBlock> sends, std::span<const ReceiveBlock> receives, const char *what) override {
    auto self = static_cast<size_t>(own);
    meeting->sends[self] = sends;
    if (Status status = meet(what); !status)
      return status;
    bool fits = true;
    // Each begins with itself and goes round, so that not all read from one.
    for (size_t i = 0; i < ranks.size(); ++i) {
      size_t from = (self + i) % ranks.size();
      SendBlock source = meeting->sends[from][self];
      fits &= source.size() == receives[from].size();
      if (fits && source.data() != receives[from].data() && !source.empty())
        std::memcpy(receives[from].data(), source.data(), source.size());
    }
    if (!fits)
      return error("two ranks do not agree on how much one sends to the other", what, {}, {}, ExitCode::Internal);
    return meet(what);
  }

private:
  std::vector<int> missing(uint64_t number) const {
    std::vector<int> result;
    for (size_t i = 0; i < ranks.size(); ++i)
      if (meeting->arrivals[i] < number)
        result.push_back(ranks[i]);
    return result;
  }

  Status meet(const char *what) {
    std::unique_lock lock(meeting->mutex);
    const uint64_t number = ++meeting->arrivals[static_cast<size_t>(own)];
    if (++meeting->present == ranks.size()) {
      meeting->present = 0;
      meeting->held = number;
      meeting->wake.notify_all();
      return {};
    }
    lock.unlock();
    const Clock::time_point start = Clock::now();
    while (Clock::now() - start < kBusy) {
      if (meeting->held >= number)
        return {};
      ::sched_yield(); // there may be fewer cores than ranks
    }
    lock.lock();
    InterruptedWait interrupted(communicator);
    while (!meeting->wake.wait_for(lock, kLookUp, [&] { return meeting->held >= number; })) {
      if (std::optional<Diagnostic> end = communicator.ended(what))
        return tl::unexpected(std::move(*end));
      if (Clock::now() - start > std::chrono::duration<double>(hub.options.deadline)) {
        Diagnostic problem = communicator.waitedInVain(missing(number), hub.options.deadline, what);
        hub.giveUp(communicator.rank(), problem.what);
        return tl::unexpected(std::move(problem));
      }
      interrupted.look([&] { return missing(number); }, what);
    }
    return {};
  }

  Communicator &communicator;
  Hub &hub;
  std::shared_ptr<Meeting> meeting;
};

class ThreadCommunicator final : public Communicator {
public:
  ThreadCommunicator(int rank, int size, std::shared_ptr<Hub> hub) : Communicator(rank, size), hub(std::move(hub)) {}

  int ranksOfProcess() const override { return size(); }
  int localRank() const override { return rank(); }
  const CommOptions &options() const override { return hub->options; }
  std::optional<Diagnostic> ended(const char *what) const override {
    if (!hub->hasEnded())
      return {};
    auto [rank, why] = hub->end();
    return otherGaveUp(rank, why, what);
  }
  std::unique_ptr<Group> group(std::vector<int> members) override {
    std::shared_ptr<Meeting> meeting = hub->meeting(members);
    return std::make_unique<ThreadGroup>(std::move(members), *this, *hub, std::move(meeting));
  }
  void giveUp(const Diagnostic &why) override { hub->giveUp(rank(), why.what); }

private:
  std::shared_ptr<Hub> hub;
};

} // namespace

std::vector<std::unique_ptr<Communicator>> makeThreadRanks(int size, const CommOptions &options) {
  auto hub = std::make_shared<Hub>(options);
  std::vector<std::unique_ptr<Communicator>> ranks;
  ranks.reserve(static_cast<size_t>(size));
  for (int rank = 0; rank < size; ++rank)
    ranks.push_back(std::make_unique<ThreadCommunicator>(rank, size, hub));
  return ranks;
}

} // namespace moe
