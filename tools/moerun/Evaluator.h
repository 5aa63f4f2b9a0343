//===- Evaluator.h - The loss on held-out text -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_EVALUATOR_H
#define MOEC_TOOLS_MOERUN_EVALUATOR_H

#include "runtime/data/TokenBatch.h"
#include "runtime/data/Windows.h"
#include "tools/moerun/Metrics.h"
#include "tools/moerun/Watchdog.h"

namespace moe {

/// Runs the program "eval" over all windows of a data set, in order. The last batch is filled up with padding, whose
/// labels do not count; for a model without a padding id the windows that do not fill a batch are left out and their
/// number is reported.
class Evaluator {
public:
  /// Errors: the plan has no program "eval" or no metrics eval_loss_sum and eval_ntokens.
  static Expected<Evaluator> create(Session &session, const TokenBatch &batch);

  /// Fields with names that start with `prefix`: loss (nats per counted token), ppl, bits_per_byte (byte-level data),
  /// ntokens, and the mean of every other sum over the counted tokens. `windows` must not be empty.
  Expected<LogRecord> run(const Windows &windows, const std::string &prefix, Watchdog &watchdog, int64_t update);

private:
  Evaluator(Session &session, const TokenBatch &batch, int program)
      : session(session), batch(batch), metrics(session, "eval"), program(program) {}

  Session &session;
  TokenBatch batch;
  Metrics metrics;
  int program;
};

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_EVALUATOR_H
