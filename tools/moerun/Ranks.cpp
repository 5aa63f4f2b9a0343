//===- Ranks.cpp - The ranks of a run -----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Ranks.h"

#include "runtime/comm/Launcher.h"
#include "runtime/comm/ThreadRanks.h"
#include "runtime/log/LineWriter.h"
#include "tools/moerun/Stop.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <unistd.h>

namespace moe {
namespace {

constexpr int64_t kMaxRanks = 1 << 20, kMaxThreadRanks = 1024;
/// Longest wait for another rank if the user does not say. A checkpoint of one rank is written meanwhile.
constexpr double kDeadline = 600;
/// When one rank that is a thread has failed, the others get this long to find out and to say what they waited for.
constexpr auto kGrace = std::chrono::seconds(8);

void print(const Diagnostic &problem) {
  LineWriter(2).line(problem.str());
}

CommOptions commOptions(double deadline) {
  return {.deadline = deadline > 0 ? deadline : kDeadline,
          .interrupted = [] { return stopSignal() != 0; },
          .report = [](const std::string &text) { LineWriter(2).line(text); }};
}

/// A command may run out of memory or into a defect; on a rank that must not leave the others waiting.
Status guarded(const RankedCommand &command, const Arguments &arguments, Rank &rank) {
  try {
    return command(arguments, rank);
  } catch (const std::bad_alloc &) {
    return error("out of memory", {}, {}, "compile for a smaller batch, or use a machine with more memory");
  } catch (const std::exception &problem) {
    return error("internal error", {}, problem.what(), "please report it with the command line", ExitCode::Internal);
  }
}

/// Whether this rank says what has ended it: what all have agreed on, the first one says for them.
bool tells(const Rank &rank) {
  return rank.isFirst() || !rank.hasAgreed();
}

void tell(const Rank &rank, Diagnostic problem) {
  std::string self = "rank " + std::to_string(rank.index());
  if (rank.size() > 1 && !rank.hasAgreed() && !problem.where.starts_with(self))
    problem.where.insert(0, problem.where.empty() ? self : self + ", ");
  print(problem);
}

int runThreads(const RankedCommand &command, const Arguments &arguments, int size, const CommOptions &options) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable wake;
    int running = 0;
    int code = 0;
    std::set<std::string> told;
  } shared;
  shared.running = size;
  auto ranks = makeThreadRanks(size, options);
  std::vector<std::thread> threads;
  threads.reserve(ranks.size());
  for (auto &communicator : ranks)
    threads.emplace_back([&, link = communicator.get()] {
      Rank rank(*link);
      Status status = guarded(command, arguments, rank);
      if (!status) {
        if (!rank.hasAgreed())
          link->giveUp(status.error());
      }
      std::lock_guard lock(shared.mutex);
      // What comes out the same on several ranks, such as a loss that is no number, is told once.
      if (!status && tells(rank) && shared.told.insert(status.error().what + "\n" + status.error().why).second)
        tell(rank, status.error());
      --shared.running;
      if (!status && shared.code == 0)
        shared.code = static_cast<int>(status.error().code);
      shared.wake.notify_all();
    });
  std::unique_lock lock(shared.mutex);
  shared.wake.wait(lock, [&] { return shared.running == 0 || shared.code != 0; });
  if (!shared.wake.wait_for(lock, kGrace, [&] { return shared.running == 0; }))
    ::_exit(shared.code); // one of them computes for long, or hangs
  lock.unlock();
  for (std::thread &thread : threads)
    thread.join();
  return shared.code;
}

int runLaunched(const RankedCommand &command, const Arguments &arguments, int64_t wanted, const Launch &launch,
                const CommOptions &options) {
  auto communicator = connect(launch, options);
  if (!communicator) {
    // What is missing may be missing on this rank's machine only; how they were started is the same for all.
    if (launch.rank == 0 || launch.isConnected)
      print(communicator.error());
    return static_cast<int>(communicator.error().code);
  }
  Rank rank(**communicator);
  Status status;
  if (wanted != 0 && wanted != rank.size())
    status =
        rank.agree(error("--ranks is not what " + launch.launcher + " has started", "--ranks " + std::to_string(wanted),
                         launch.launcher + " has started " + std::to_string(rank.size()) + " ranks",
                         "leave --ranks out under a launcher", ExitCode::Usage),
                   "reading the command line");
  if (status)
    status = guarded(command, arguments, rank);
  if (status)
    return 0;
  if (tells(rank))
    tell(rank, status.error());
  if (!rank.hasAgreed())
    (*communicator)->giveUp(status.error());
  return static_cast<int>(status.error().code);
}

} // namespace

Status Rank::agree(Status own, const char *what) {
  if (!link)
    return own;
  Agreed outcome = moe::agree(*all, own, what);
  agreed |= !outcome.status && outcome.heard;
  return outcome.status;
}

Expected<bool> Rank::anyOf(bool own, const char *what) {
  return link ? moe::anyOf(*all, own, what) : own;
}

Expected<int> Rank::firstOther(uint64_t own, const char *what) {
  if (!link)
    return -1;
  auto numbers = gatherNumbers(*all, own, what);
  if (!numbers)
    return tl::unexpected(std::move(numbers.error()));
  auto other = std::ranges::find_if(*numbers, [&](uint64_t number) { return number != numbers->front(); });
  return other == numbers->end() ? -1 : static_cast<int>(other - numbers->begin());
}

int runOnRanks(const RankedCommand &command, const Arguments &arguments) {
  auto wanted = arguments.integer("ranks", 0, 1, kMaxRanks);
  auto deadline = arguments.real("deadline", 0, 0, 1e9);
  if (!wanted || !deadline) {
    const Diagnostic &problem = wanted ? deadline.error() : wanted.error();
    print(problem);
    return static_cast<int>(problem.code);
  }
  auto launch = findLaunch([](const char *name) -> const char * { return std::getenv(name); });
  const CommOptions options = commOptions(*deadline);
  if (launch && launch->size != 1)
    return runLaunched(command, arguments, *wanted, *launch, options);
  if (*wanted > kMaxThreadRanks) {
    print({"too many ranks for one process", "--ranks " + std::to_string(*wanted),
           "they would be threads, of which " + std::to_string(kMaxThreadRanks) + " are the most",
           "start them with mpirun", ExitCode::Usage});
    return static_cast<int>(ExitCode::Usage);
  }
  if (*wanted > 1)
    return runThreads(command, arguments, static_cast<int>(*wanted), options);
  Rank alone;
  Status status = command(arguments, alone);
  if (status)
    return 0;
  print(status.error());
  return static_cast<int>(status.error().code);
}

} // namespace moe
