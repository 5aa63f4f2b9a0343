//===- Watchdog.h - Ends a run that no longer moves --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_WATCHDOG_H
#define MOEC_TOOLS_MOERUN_WATCHDOG_H

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace moe {

/// If no step ends within the deadline, prints what the run was waiting for and ends the process with exit code 1: a
/// wait without an end helps nobody.
class Watchdog {
public:
  /// A deadline of 0 watches nothing. `rank` is for the message.
  explicit Watchdog(double seconds, int rank = 0);
  ~Watchdog();

  /// Something has moved; `activity` (a literal) of `update` begins.
  void beat(const char *activity, int64_t update);

private:
  void watch();

  std::chrono::duration<double> deadline;
  int rank;
  std::atomic<const char *> activity = "start";
  std::atomic<int64_t> update = 0;
  std::atomic<uint64_t> beats = 0;
  std::mutex mutex;
  std::condition_variable wake;
  bool done = false;
  std::thread thread;
};

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_WATCHDOG_H
