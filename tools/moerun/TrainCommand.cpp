//===- TrainCommand.cpp - moerun train ---------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/ExportFile.h"
#include "tools/moerun/DataSetup.h"
#include "tools/moerun/Setup.h"
#include "tools/moerun/Stop.h"
#include "tools/moerun/TrainLoop.h"

#include <cstring>

namespace moe {

static std::vector<Flag> trainFlags() {
  std::vector<Flag> flags = dataFlags();
  const Flag others[] = {
      {"max-update", "N", "updates after which training ends, those before a resume included", true},
      {"save-dir", "DIR", "folder of the checkpoints, made if missing", true},
      {"valid-split", "FRACTION", "hold out this last part of the data for validation; default: 0"},
      {"valid", "FILE", "validation data in a file of its own"},
      {"validate-interval-updates", "K", "validate after every K updates; default: only at the end"},
      {"save-interval-updates", "K", "save after every K updates; default: only at the end"},
      {"keep-last", "N", "keep only the newest N checkpoints; default: all"},
      {"resume", "", "continue from the newest readable checkpoint in --save-dir, if there is one"},
      {"reset-dataloader", "", "with --resume: start at the beginning of the data"},
      {"in-order", "", "take samples as the file has them; default: shuffled anew in each epoch"},
      {"log-interval", "K", "report every K updates; default: 10"},
      {"export", "FILE", "at the end, write the weights for PyTorch, as `moerun export` does"},
      {"strip-prefix", "TEXT", "with --export: leave this out of names that begin with it"},
      {"tensorboard", "DIR", "also write what is reported as event files of TensorBoard into this folder"},
      {"verbose", "", "tell more: memory at the end"},
  };
  flags.insert(flags.end(), std::begin(others), std::end(others));
  return withCommonFlags(std::move(flags));
}

const Command &trainCommand() {
  static const Command command = {
      "train",
      "Trains a plan on tokens, samples or text and saves checkpoints.",
      "PLAN",
      trainFlags(),
      "SIGINT and SIGTERM finish the running update, save and exit with 0; a second one exits at once. A checkpoint is "
      "complete if its name ends in .safetensors. A resumed run continues bit for bit.",
  };
  return command;
}

static Expected<TrainOptions> readTrainOptions(const Arguments &arguments, const CommonOptions &common) {
  TrainOptions options;
  struct Number {
    const char *flag;
    int64_t *value;
    int64_t fallback, least;
  } numbers[] = {{"max-update", &options.maxUpdate, 0, 0},
                 {"save-interval-updates", &options.saveInterval, 0, 0},
                 {"keep-last", &options.keepLast, 0, 1},
                 {"log-interval", &options.logInterval, 10, 1},
                 {"validate-interval-updates", &options.validateInterval, 0, 0}};
  for (const Number &number : numbers) {
    auto value = arguments.integer(number.flag, number.fallback, number.least);
    if (!value)
      return tl::unexpected(value.error());
    *number.value = *value;
  }
  if (arguments.has("valid") && arguments.has("valid-split"))
    return error("--valid and --valid-split exclude each other", {}, {}, "give one of them", ExitCode::Usage);
  options.deadline = common.deadline;
  options.inOrder = arguments.has("in-order");
  return options;
}

static Expected<DataSplit> openSplit(const Arguments &arguments, const plan::Plan &plan, const ModelInputs &inputs,
                                     TrainLog &log) {
  auto fraction = arguments.real("valid-split", 0, 0, 1);
  if (!fraction)
    return tl::unexpected(fraction.error());
  auto split = openData(arguments.text("data"), *fraction, arguments, plan, inputs, log);
  if (!split || !arguments.has("valid"))
    return split;
  auto valid = openData(arguments.text("valid"), 0, arguments, plan, inputs, log);
  if (!valid)
    return tl::unexpected(valid.error());
  split->valid = std::move(valid->train);
  return split;
}

/// Finds the checkpoint to continue from. Without --resume there must be none, or new checkpoints would mix with old
/// ones.
static Expected<std::optional<CheckpointFile>> findCheckpoint(const Arguments &arguments, CheckpointFolder &folder,
                                                              TrainLog &log) {
  if (arguments.has("resume"))
    return CheckpointFolder::newest(
        folder.path(), [&](const std::string &text) { log.message(text + "\nnote: trying an older one"); });
  if (auto files = folder.list(); !files.empty())
    return error("the checkpoint folder already holds a run", files.front().string(),
                 "its checkpoints would mix with those of the new run",
                 "continue that run with --resume, or give another --save-dir");
  return std::optional<CheckpointFile>();
}

/// The folder of the checkpoints, which the first rank opens for all.
static Expected<CheckpointFolder> openFolder(const Arguments &arguments, Rank &rank) {
  const std::string path = arguments.text("save-dir");
  return rank.agree(rank.isFirst() ? CheckpointFolder::open(path)
                                   : Expected<CheckpointFolder>(CheckpointFolder::follow(path)),
                    "opening the checkpoint folder");
}

/// Restores a checkpoint, or sets first values without one. The ranks agree on the outcome.
static Status fillState(Session &session, TrainLoop &loop, const std::optional<CheckpointFile> &checkpoint,
                        bool keepPosition, const CommonOptions &common, Rank &rank) {
  if (!checkpoint)
    return rank.agree(initialise(session, common), "setting first values");
  // What is not in a checkpoint (frozen tensors) comes from the model; what is in it is overwritten.
  Status status = checkpoint->matches(session.plan());
  if (status)
    status = loop.resume(checkpoint->info(), keepPosition);
  if (status)
    status = initialise(session, common);
  if (status)
    status = checkpoint->restore(session);
  if (Status agreed = rank.agree(status, "restoring the checkpoint"); !agreed)
    return agreed;
  auto other = rank.firstOther(uint64_t(loop.updates()), "restoring the checkpoint");
  if (!other)
    return tl::unexpected(std::move(other.error()));
  if (*other < 0)
    return {};
  return rank.agree(error("the ranks would continue from different checkpoints", checkpoint->path().string(),
                          "that of rank " + std::to_string(*other) + " is of another update than that of rank 0",
                          "give a --save-dir that all machines share"),
                    "restoring the checkpoint");
}

Status runTrain(const Arguments &arguments, Rank &rank) {
  auto common = rank.agree(readCommonOptions(arguments, rank), "reading the command line");
  if (!common)
    return tl::unexpected(common.error());
  auto options = rank.agree(readTrainOptions(arguments, *common), "reading the command line");
  if (!options)
    return tl::unexpected(options.error());
  options->deadline = watchdogSeconds(*common, rank);
  TrainLog log(common->format);

  common->choices = algorithmsFile(arguments);
  auto opened = openSession(*common, log, rank);
  if (!opened)
    return tl::unexpected(opened.error());
  Session &session = *opened->session;
  auto inputs = rank.agree(readModelInputs(arguments, session.plan()), "reading the command line");
  if (!inputs)
    return tl::unexpected(inputs.error());
  auto data = rank.agree(openSplit(arguments, session.plan(), *inputs, log), "opening the data");
  if (!data)
    return tl::unexpected(data.error());
  auto folder = openFolder(arguments, rank);
  if (!folder)
    return tl::unexpected(folder.error());
  auto checkpoint = rank.agree(findCheckpoint(arguments, *folder, log), "looking for a checkpoint");
  if (!checkpoint)
    return tl::unexpected(checkpoint.error());

  const bool keepPosition = !arguments.has("reset-dataloader");
  options->seed = common->seed.value_or(*checkpoint && keepPosition ? (*checkpoint)->info().seed
                                                                    : session.plan().training().seed());
  auto loop = rank.agree(TrainLoop::create(session, *inputs, std::move(*data), *folder, log, *options,
                                           [&] { return rank.anyOf(stopSignal() != 0, "agreeing to go on"); }),
                         "preparing the data");
  if (!loop)
    return tl::unexpected(loop.error());
  if (Status status = fillState(session, *loop, *checkpoint, keepPosition, *common, rank); !status)
    return status;
  if (*checkpoint)
    log.message("resuming from " + (*checkpoint)->path().string() + " (update " + std::to_string(loop->updates()) +
                ")");
  checkpoint->reset();
  if (loop->updates() >= options->maxUpdate) {
    log.message("nothing to do: update " + std::to_string(loop->updates()) + " of " +
                std::to_string(options->maxUpdate) + " is done");
    return {};
  }

  if (arguments.has("tensorboard") && rank.isFirst()) {
    auto events = EventFile::create(arguments.text("tensorboard"));
    if (!events)
      return tl::unexpected(events.error());
    loop->writeEvents(std::move(*events));
  }
  installStopSignals();
  const int64_t first = loop->updates();
  if (Status status = loop->run(); !status) {
    log.finish();
    return status;
  }
  log.finish();
  if (log.isJson() || arguments.has("verbose"))
    reportMemory(*opened, log);
  if (arguments.has("export"))
    if (Status status =
            exportParameters(session, arguments.text("export"), {.stripPrefix = arguments.text("strip-prefix")});
        !status)
      return status;
  if (int signal = stopSignal())
    log.message(std::string("stopped by ") + ::strsignal(signal) + " after update " + std::to_string(loop->updates()) +
                (loop->updates() > first ? "; the checkpoint is saved" : "") + ", continue with --resume");
  return {};
}

} // namespace moe
