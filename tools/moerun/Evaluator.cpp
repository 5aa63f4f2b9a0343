//===- Evaluator.cpp - The loss on held-out text -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Evaluator.h"

#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

namespace moe {

Expected<Evaluator> Evaluator::create(Session &session, const InputBatch &batch) {
  auto program = requireProgram(session, "eval");
  if (!program)
    return tl::unexpected(program.error());
  Evaluator result(session, batch, *program);
  for (const char *name : {"eval_loss_sum", "eval_ntokens"})
    if (!result.metrics.has(name))
      return error("the plan's program 'eval' has no metric " + std::string(name), {}, {}, "compile the model again");
  return result;
}

Expected<LogRecord> Evaluator::run(const SampleSource &samples, const std::string &prefix, Watchdog &watchdog,
                                   int64_t update) {
  const bool canPad = batch.inputs().ignored().has_value();
  const int64_t rows = batch.rows();
  const int64_t batches = canPad ? (samples.count() + rows - 1) / rows : samples.count() / rows;
  if (batches == 0)
    return error("the data does not fill one batch", samples.path().string(),
                 std::to_string(samples.count()) + " samples, a batch takes " + std::to_string(rows));
  Sample sample;
  std::vector<double> sums(metrics.entries().size(), 0.0);
  for (int64_t first = 0; first < batches * rows; first += rows) {
    for (int64_t row = 0; row < rows; ++row) {
      if (first + row >= samples.count()) {
        batch.pad(0, row);
        continue;
      }
      if (!batch.holds(row)) // another rank does
        continue;
      Status status = samples.read(first + row, sample);
      if (status)
        status = batch.write(0, row, sample);
      if (!status)
        return tl::unexpected(status.error());
    }
    // Cleared and added up here after each batch: running sums in float32 would lose digits over a large data set.
    if (Status status = metrics.clear(); !status)
      return tl::unexpected(status.error());
    watchdog.beat("program eval", update);
    if (Status status = session.run(program); !status)
      return tl::unexpected(status.error());
    for (size_t i = 0; i < sums.size(); ++i)
      sums[i] += session.metric(metrics.entries()[i].index);
  }

  // What is minimised may hold more than the cross-entropy (a gate loss); perplexity is of the latter where it is
  // known.
  double lossSum = 0, counted = 0;
  std::optional<double> innerSum;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (metrics.entries()[i].name == "eval_loss_sum")
      lossSum = sums[i];
    if (metrics.entries()[i].name == "eval_ntokens")
      counted = sums[i];
    if (metrics.entries()[i].name == "eval_inner_loss_sum")
      innerSum = sums[i];
  }
  if (!(counted > 0))
    return error("no label of the data counts", samples.path().string(), "all of them are padding");
  const double loss = lossSum / counted;
  LogRecord record;
  record[prefix + "loss"] = loss;
  const double crossEntropy = innerSum.value_or(lossSum) / counted;
  record[prefix + "ppl"] = std::exp(crossEntropy);
  if (samples.isBytes())
    record[prefix + "bits_per_byte"] = crossEntropy / std::numbers::ln2;
  record[prefix + "ntokens"] = static_cast<int64_t>(counted);
  for (size_t i = 0; i < sums.size(); ++i) {
    std::string_view name = metrics.entries()[i].name;
    if (name == "eval_loss_sum" || name == "eval_ntokens")
      continue;
    if (name.starts_with("eval_"))
      name.remove_prefix(5);
    if (name == "dropped") // a count of all data, not a mean of batches
      record[prefix + std::string(name)] = static_cast<int64_t>(sums[i]);
    else if (name.ends_with("_sum"))
      record[prefix + std::string(name.substr(0, name.size() - 4))] = sums[i] / counted;
    else
      record[prefix + std::string(name)] = sums[i] / double(batches);
  }
  if (int64_t left = samples.count() - batches * rows; left > 0)
    record[prefix + "samples_left_out"] = left;
  return record;
}

} // namespace moe
