//===- TrainLoop.h - Updates, checkpoints, validation ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_TRAINLOOP_H
#define MOEC_TOOLS_MOERUN_TRAINLOOP_H

#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/data/InputBatch.h"
#include "runtime/data/ShuffledSamples.h"
#include "runtime/log/EventFile.h"
#include "runtime/log/TrainLog.h"
#include "tools/moerun/Evaluator.h"
#include "tools/moerun/Metrics.h"
#include "tools/moerun/Watchdog.h"

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

namespace moe {

struct TrainOptions {
  int64_t maxUpdate = 0;
  int64_t saveInterval = 0; ///< updates between checkpoints; 0 = only at the end
  int64_t keepLast = 0;     ///< checkpoints to keep; 0 = all
  int64_t logInterval = 1;
  int64_t validateInterval = 0; ///< updates between validations; 0 = only at the end
  uint64_t seed = 0;            ///< of the sample order
  bool inOrder = false;         ///< samples as the file has them, not shuffled
  double deadline = 0;          ///< seconds without progress that end the run; 0 = none
};

/// Whether to end after the running update: the same on all ranks. Errors: these cannot agree.
using StopRequest = std::function<Expected<bool>()>;

/// Trains until `maxUpdate` or until asked to stop. All of its own state is what CheckpointInfo holds: a run resumed
/// from a checkpoint does bit for bit what the uninterrupted one does.
class TrainLoop {
public:
  /// The samples of `data` must be those of `inputs`. `stop` is called before each update.
  static Expected<TrainLoop> create(Session &session, const ModelInputs &inputs, DataSplit data,
                                    CheckpointFolder &folder, TrainLog &log, TrainOptions options, StopRequest stop);

  /// Also tells everything that is logged to TensorBoard.
  void writeEvents(EventFile file) { events.emplace(std::move(file)); }

  /// Continues where a restored checkpoint stopped. Errors: other training data, other seed.
  Status resume(const CheckpointInfo &info, bool keepDataPosition);

  /// Errors leave the last checkpoint as it was: a loss or gradient norm that is not finite, a failed save.
  Status run();

  int64_t updates() const { return done; }

private:
  TrainLoop(Session &session, InputBatch batch, ShuffledSamples samples, std::shared_ptr<const SampleSource> valid,
            CheckpointFolder &folder, TrainLog &log, TrainOptions options, StopRequest stop)
      : session(session), batch(std::move(batch)), samples(std::move(samples)), valid(std::move(valid)), folder(folder),
        log(log), options(options), stop(std::move(stop)), metrics(session, "update") {}

  Status stage();
  Status update();
  Status save();
  Status validate();
  void report();
  void addEvents(const LogRecord &record);

  Session &session;
  InputBatch batch;
  Sample sample; ///< one, on its way into the batch
  ShuffledSamples samples;
  std::shared_ptr<const SampleSource> valid; ///< null: none
  CheckpointFolder &folder;
  TrainLog &log;
  TrainOptions options;
  StopRequest stop;
  Metrics metrics;
  std::optional<Evaluator> evaluator;
  std::optional<EventFile> events;
  std::unique_ptr<Watchdog> watchdog;
  std::vector<int> programs; ///< of one update: the micro-steps, then `update`
  int64_t done = 0;
  int64_t lastSaved = -1;
  int64_t firstUpdate = 0;

  using Clock = std::chrono::steady_clock;
  Clock::time_point started, lastReport;
  int64_t reportedUpdates = 0;
};

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_TRAINLOOP_H
