//===- RunCommand.cpp - moerun run -------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/AtomicFile.h"
#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/ParameterFile.h"
#include "tools/moerun/Laboratory.h"
#include "tools/moerun/Setup.h"

namespace moe {

const Command &runCommand() {
  static const Command command = {
      "run",
      "The laboratory: runs updates on given batches and saves outputs, gradients and parameters.",
      "PLAN",
      withCommonFlags({
          {"inputs", "FILE", "safetensors file with each model input, with one more leading dimension: the batch index",
           true},
          {"steps", "N", "updates to run; update i takes the batches i*n to i*n+n-1, n = `accumulate` of the recipe",
           true},
          {"save-outputs", "FILE", "outputs of the model for batch 0 before update 0"},
          {"save-gradients", "FILE", "gradients of update 0, before clipping, named as the parameters"},
          {"save-state", "FILE", "parameters after the last update"},
          {"verbose", "", "tell more: memory at the end"},
      }),
      "Prints one line per update: update (from 0), loss (mean over the counted tokens, nats), gnorm (before "
      "clipping), lr "
      "(used by this update) and the model's other metrics.",
  };
  return command;
}

Status runRun(const Arguments &arguments, Rank &rank) {
  auto common = rank.agree(readCommonOptions(arguments, rank), "reading the command line");
  if (!common)
    return tl::unexpected(common.error());
  auto steps = rank.agree(arguments.integer("steps", 0, 0), "reading the command line");
  if (!steps)
    return tl::unexpected(steps.error());
  LaboratoryOptions options{.steps = *steps,
                            .outputs = arguments.text("save-outputs"),
                            .gradients = arguments.text("save-gradients"),
                            .state = arguments.text("save-state"),
                            .deadline = watchdogSeconds(*common, rank)};
  Status writable;
  for (const std::filesystem::path *path : {&options.outputs, &options.gradients, &options.state})
    if (!path->empty() && writable && rank.isFirst())
      writable = checkWritable(*path);
  if (Status status = rank.agree(writable, "looking for room for the results"); !status)
    return status;
  TrainLog log(common->format);
  auto opened = openSession(*common, log, rank);
  if (!opened)
    return tl::unexpected(opened.error());
  Session &session = *opened->session;
  std::string extra;
  auto batches = rank.agree(BatchFile::open(arguments.text("inputs"), session, extra), "opening the inputs");
  if (!batches)
    return tl::unexpected(batches.error());
  if (!extra.empty())
    log.message("note: not inputs of the plan, hence not used: " + extra);
  if (Status status = rank.agree(initialise(session, *common), "setting first values"); !status)
    return status;
  if (Status status = runLaboratory(session, *batches, log, options); !status)
    return status;
  log.finish();
  if (arguments.has("verbose"))
    reportMemory(*opened, log);
  return {};
}

} // namespace moe
