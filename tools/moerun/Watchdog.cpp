//===- Watchdog.cpp - Ends a run that no longer moves ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Watchdog.h"

#include "runtime/core/Diagnostic.h"
#include "runtime/log/LineWriter.h"

#include <unistd.h>

namespace moe {

Watchdog::Watchdog(double seconds, int rank) : deadline(seconds), rank(rank) {
  if (seconds > 0)
    thread = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex);
    done = true;
  }
  wake.notify_all();
  if (thread.joinable())
    thread.join();
}

void Watchdog::beat(const char *what, int64_t number) {
  activity.store(what, std::memory_order_relaxed);
  update.store(number, std::memory_order_relaxed);
  beats.fetch_add(1, std::memory_order_relaxed);
}

void Watchdog::watch() {
  using Clock = std::chrono::steady_clock;
  std::unique_lock lock(mutex);
  uint64_t seen = beats.load(std::memory_order_relaxed);
  auto since = Clock::now();
  const auto period = std::min<std::chrono::duration<double>>(deadline / 4, std::chrono::seconds(1));
  while (!wake.wait_for(lock, period, [this] { return done; })) {
    uint64_t now = beats.load(std::memory_order_relaxed);
    if (now != seen) {
      seen = now;
      since = Clock::now();
    } else if (Clock::now() - since > deadline) {
      Diagnostic problem{"the run has not moved for " + std::to_string(deadline.count()) + " seconds",
                         "rank " + std::to_string(rank) + ", update " + std::to_string(update.load()) + ", " +
                             activity.load(),
                         "this step has not ended within the --deadline",
                         "give a longer --deadline if the machine is slow or busy; the last checkpoint is untouched"};
      LineWriter(2).line(problem.str());
      ::_exit(static_cast<int>(ExitCode::User));
    }
  }
}

} // namespace moe
