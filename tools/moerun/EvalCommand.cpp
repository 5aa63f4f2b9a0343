//===- EvalCommand.cpp - moerun eval -----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/CheckpointFolder.h"
#include "tools/moerun/Evaluator.h"
#include "tools/moerun/Setup.h"

#include <cmath>

namespace moe {

const Command &evalCommand() {
  static const Command command = {
      "eval",
      "Prints the loss of a model on text or token ids.",
      "PLAN",
      withCommonFlags({
          {"data", "FILE", "text (bytes become tokens 4 to 259) or a .npy array of token ids", true},
          {"valid-split", "FRACTION", "use only this last part of the data, as `moerun train` holds it out"},
          {"checkpoint", "FILE", "the trained state"},
          {"save-dir", "DIR", "take the newest readable checkpoint of this folder"},
          {"verbose", "", "tell more: memory at the end"},
      }),
      "Without --checkpoint, --save-dir or --init-state, the first weights of the plan are evaluated.",
  };
  return command;
}

static Expected<std::optional<CheckpointFile>> openCheckpoint(const Arguments &arguments, TrainLog &log) {
  if (arguments.has("checkpoint")) {
    auto file = CheckpointFile::open(arguments.text("checkpoint"));
    if (!file)
      return tl::unexpected(file.error());
    return std::optional<CheckpointFile>(std::move(*file));
  }
  if (!arguments.has("save-dir"))
    return std::optional<CheckpointFile>();
  auto newest = CheckpointFolder::newest(
      arguments.text("save-dir"), [&](const std::string &text) { log.message(text + "\nnote: trying an older one"); });
  if (newest && !*newest)
    return error("there is no checkpoint", arguments.text("save-dir"));
  return newest;
}

static Expected<Windows> openWindows(const Arguments &arguments, const plan::Plan &plan) {
  auto fraction = arguments.real("valid-split", 1, 0, std::nextafter(1.0, 2.0));
  if (!fraction)
    return tl::unexpected(fraction.error());
  auto tokens = openTokens(plan, arguments.text("data"));
  if (!tokens)
    return tl::unexpected(tokens.error());
  const int64_t size = (*tokens)->size(), length = plan.training().sequence_length();
  if (*fraction == 1)
    return Windows::create(*tokens, 0, size, length);
  auto split = splitTokens(*tokens, *fraction, length);
  if (!split)
    return tl::unexpected(split.error());
  if (!split->valid)
    return error("--valid-split 0 leaves nothing to evaluate", {}, {}, "give a fraction above 0", ExitCode::Usage);
  return std::move(*split->valid);
}

Status runEval(const Arguments &arguments) {
  auto common = readCommonOptions(arguments);
  if (!common)
    return tl::unexpected(common.error());
  TrainLog log(common->format);
  common->choices = algorithmsFile(arguments);
  auto opened = openSession(*common, log);
  if (!opened)
    return tl::unexpected(opened.error());
  Session &session = *opened->session;
  auto windows = openWindows(arguments, session.plan());
  if (!windows)
    return tl::unexpected(windows.error());
  auto batch = TokenBatch::create(session);
  if (!batch)
    return tl::unexpected(batch.error());
  auto evaluator = Evaluator::create(session, *batch);
  if (!evaluator)
    return tl::unexpected(evaluator.error());
  auto checkpoint = openCheckpoint(arguments, log);
  if (!checkpoint)
    return tl::unexpected(checkpoint.error());
  if (Status status = initialise(session, *common); !status)
    return status;
  LogRecord record;
  if (*checkpoint) {
    if (Status status = (*checkpoint)->restore(session); !status)
      return status;
    record["checkpoint"] = (*checkpoint)->path().string();
    record["num_updates"] = (*checkpoint)->info().updates;
  }
  Watchdog watchdog(common->deadline);
  auto result = evaluator->run(*windows, "", watchdog, 0);
  if (!result)
    return tl::unexpected(result.error());
  record.update(*result);
  log.record(record);
  if (arguments.has("verbose"))
    reportMemory(*opened, log);
  return {};
}

} // namespace moe
