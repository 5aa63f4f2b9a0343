//===- Evaluator.h - The loss on held-out data -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_EVALUATOR_H
#define MOEC_TOOLS_MOERUN_EVALUATOR_H

#include "runtime/data/InputBatch.h"
#include "tools/moerun/Metrics.h"
#include "tools/moerun/Watchdog.h"

namespace moe {

/// Runs the program "eval" over all samples of a data set, in order. The last batch is filled up with padding, whose
/// labels do not count; for a model that counts all labels the samples that do not fill a batch are left out and their
/// number is reported.
class Evaluator {
public:
  /// Errors: the plan has no program "eval" or no metrics eval_loss_sum and eval_ntokens.
  static Expected<Evaluator> create(Session &session, const InputBatch &batch);

  /// Fields with names that start with `prefix`: loss (nats per counted token), ppl, bits_per_byte (byte-level data),
  /// ntokens, and the mean of every other sum over the counted tokens. `samples` must not be empty.
  Expected<LogRecord> run(const SampleSource &samples, const std::string &prefix, Watchdog &watchdog, int64_t update);

private:
  Evaluator(Session &session, const InputBatch &batch, int program)
      : session(session), batch(batch), metrics(session, "eval"), program(program) {}

  Session &session;
  InputBatch batch;
  Metrics metrics;
  int program;
};

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_EVALUATOR_H
