//===- Communicator.cpp - Bytes between ranks ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/Communicator.h"

#include <algorithm>
#include <numeric>

namespace moe {

Group::Group(std::vector<int> members, int rank) : ranks(std::move(members)) {
  own = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

std::unique_ptr<Group> Communicator::all() {
  std::vector<int> members(static_cast<size_t>(count));
  std::iota(members.begin(), members.end(), 0);
  return group(std::move(members));
}

/// "rank 3", "ranks 3, 5, 6 and 12 more".
static std::string listOf(const std::vector<int> &ranks) {
  constexpr size_t kMost = 8;
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(ranks.size(), kMost); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  if (ranks.size() > kMost)
    text += " and " + std::to_string(ranks.size() - kMost) + " more";
  return text;
}

static std::string secondsText(double seconds) {
  std::string text = std::to_string(seconds);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.'))
    text.pop_back();
  return text + " s";
}

std::string Communicator::place(const char *what) const {
  int64_t number = update.load(std::memory_order_relaxed);
  return "rank " + std::to_string(ownRank) + (number < 0 ? "" : ", update " + std::to_string(number)) + ", " + what;
}

Diagnostic Communicator::waitedInVain(const std::vector<int> &missing, double seconds, const char *what) const {
  return {
      "rank " + std::to_string(ownRank) + " waited in vain for " + listOf(missing), place(what),
      "nothing has come from there within " + secondsText(seconds),
      "see what these ranks say; if they are only slow, give a longer --deadline; the last checkpoint is untouched"};
}

Diagnostic Communicator::deviceWaitedInVain(const std::vector<int> &peers, double seconds, const char *what) const {
  Diagnostic problem = waitedInVain(peers, seconds, what);
  if (peers.size() > 1)
    problem.what = "rank " + std::to_string(ownRank) + " waited in vain for one of " + listOf(peers);
  problem.why = "the work of its device has not ended within " + secondsText(seconds);
  return problem;
}

Diagnostic Communicator::otherGaveUp(int rank, const std::string &why, const char *what) const {
  return {"rank " + std::to_string(ownRank) + " stops because rank " + std::to_string(rank) + " has given up",
          place(what), why, "see what that rank says; the last checkpoint is untouched"};
}

std::string Communicator::stillWaiting(const std::vector<int> &missing, const char *what) const {
  return "rank " + std::to_string(ownRank) + " is to stop, but waits for " + listOf(missing) + " (" + place(what) + ")";
}

bool InterruptedWait::isDue() {
  constexpr auto kPatience = std::chrono::milliseconds(300);
  const CommOptions &options = communicator.options();
  if (reported || !options.interrupted || !options.report)
    return false;
  const Clock::time_point now = Clock::now();
  if (options.interrupted())
    interrupted = std::min(interrupted, now);
  reported = interrupted != Clock::time_point::max() && now - interrupted > kPatience;
  return reported;
}

} // namespace moe
