//===- EvalCommand.cpp - moerun eval -----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/DataSetup.h"
#include "tools/moerun/Evaluator.h"
#include "tools/moerun/Setup.h"

#include <cmath>

namespace moe {

static std::vector<Flag> evalFlags() {
  std::vector<Flag> flags = dataFlags();
  const Flag others[] = {
      {"valid-split", "FRACTION", "use only this last part of the data, as `moerun train` holds it out"},
      {"checkpoint", "FILE", "the trained state"},
      {"save-dir", "DIR", "take the newest readable checkpoint of this folder"},
      {"verbose", "", "tell more: memory at the end"},
  };
  flags.insert(flags.end(), std::begin(others), std::end(others));
  return withCommonFlags(std::move(flags));
}

const Command &evalCommand() {
  static const Command command = {
      "eval",
      "Prints the loss of a model on tokens, samples or text.",
      "PLAN",
      evalFlags(),
      "Without --checkpoint, --save-dir or --init-state, the first weights of the plan are evaluated.",
  };
  return command;
}

static Expected<std::shared_ptr<const SampleSource>> openSamples(const Arguments &arguments, const plan::Plan &plan,
                                                                 const ModelInputs &inputs, TrainLog &log) {
  auto fraction = arguments.real("valid-split", 1, 0, std::nextafter(1.0, 2.0));
  if (!fraction)
    return tl::unexpected(fraction.error());
  if (*fraction == 0)
    return error("--valid-split 0 leaves nothing to evaluate", {}, {}, "give a fraction above 0", ExitCode::Usage);
  auto split = openData(arguments.text("data"), *fraction == 1 ? 0 : *fraction, arguments, plan, inputs, log);
  if (!split)
    return tl::unexpected(split.error());
  return *fraction == 1 ? std::move(split->train) : std::move(split->valid);
}

Status runEval(const Arguments &arguments, Rank &rank) {
  auto common = rank.agree(readCommonOptions(arguments, rank), "reading the command line");
  if (!common)
    return tl::unexpected(common.error());
  TrainLog log(common->format);
  common->choices = algorithmsFile(arguments);
  auto opened = openSession(*common, log, rank);
  if (!opened)
    return tl::unexpected(opened.error());
  Session &session = *opened->session;
  auto inputs = rank.agree(readModelInputs(arguments, session.plan()), "reading the command line");
  if (!inputs)
    return tl::unexpected(inputs.error());
  auto samples = rank.agree(openSamples(arguments, session.plan(), *inputs, log), "opening the data");
  if (!samples)
    return tl::unexpected(samples.error());
  auto evaluator = Evaluator::create(session, InputBatch(session, *inputs));
  if (!evaluator)
    return tl::unexpected(evaluator.error());
  auto checkpoint = rank.agree(openCheckpoint(arguments, log), "opening the checkpoint");
  if (!checkpoint)
    return tl::unexpected(checkpoint.error());
  if (Status status = rank.agree(initialise(session, *common), "setting first values"); !status)
    return status;
  LogRecord record;
  if (*checkpoint) {
    if (Status status = rank.agree((*checkpoint)->restore(session), "restoring the checkpoint"); !status)
      return status;
    record["checkpoint"] = (*checkpoint)->path().string();
    record["num_updates"] = (*checkpoint)->info().updates;
  }
  Watchdog watchdog(watchdogSeconds(*common, rank), rank.index());
  auto result = evaluator->run(**samples, "", watchdog, 0);
  if (!result)
    return tl::unexpected(result.error());
  record.update(*result);
  log.record(record);
  if (arguments.has("verbose"))
    reportMemory(*opened, log);
  return {};
}

} // namespace moe
