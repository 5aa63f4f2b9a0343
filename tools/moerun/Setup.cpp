//===- Setup.cpp - What all commands have in common --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Setup.h"

#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/StateInit.h"
#include "runtime/log/MemoryUsage.h"

#include <filesystem>

namespace moe {

std::vector<Flag> withCommonFlags(std::vector<Flag> flags) {
  static const Flag common[] = {
      {"init-state", "FILE", "safetensors file that sets every parameter by its name"},
      {"weights", "FILE", "where the model's ONNX file is now, if it has moved since the plan was compiled"},
      {"device", "NAME", "refuse plans that are for another device than this, cpu or cuda"},
      {"seed", "N", "seed of first weights and sample order; default: the recipe's"},
      {"threads", "N", "threads of a rank; default: as compiled, another number may change the last bits"},
      {"ranks", "N", "ranks of this run, as threads; under mpirun or srun --mpi=pmix they are processes without this"},
      {"deadline", "SECONDS",
       "end the run if a step takes longer than this; default: wait, but no longer than 600 for another rank"},
      {"poison", "", "fill dead memory with NaN and guard its ends, to find errors of a plan"},
      {"log-format", "FORMAT",
       "json (one line per record on standard output) or progress; default: progress on a "
       "terminal, else json"},
  };
  flags.insert(flags.end(), std::begin(common), std::end(common));
  return flags;
}

Expected<CommonOptions> readCommonOptions(const Arguments &arguments, const Rank &rank) {
  CommonOptions options;
  options.planPath = arguments.operand;
  options.poison = arguments.has("poison");
  options.weights = arguments.text("weights");
  options.initState = arguments.text("init-state");
  options.device = arguments.text("device");
  auto threads = arguments.integer("threads", 0, 1, 4096);
  auto seed = arguments.integer("seed", 0, 0);
  auto deadline = arguments.real("deadline", 0, 0, 1e9);
  for (const auto *number : {&threads, &seed})
    if (!*number)
      return tl::unexpected(number->error());
  if (!deadline)
    return tl::unexpected(deadline.error());
  options.threads = int(*threads);
  options.deadline = *deadline;
  if (arguments.has("seed"))
    options.seed = uint64_t(*seed);
  std::string format = arguments.text("log-format");
  if (format == "json")
    options.format = TrainLog::Format::Json;
  else if (format == "progress")
    options.format = TrainLog::Format::Progress;
  else if (!format.empty())
    return error("unknown log format '" + format + "'", "--log-format", {}, "the formats are json and progress",
                 ExitCode::Usage);
  if (!rank.isFirst())
    options.format = TrainLog::Format::Silent;
  return options;
}

/// An error on all ranks if they do not all have the same plan.
static Status comparePlans(const CommonOptions &options, const plan::Plan &plan, Rank &rank) {
  if (!rank.communicator())
    return {};
  std::string message = plan.SerializeAsString();
  Digest digest;
  digest.add(message);
  auto other = rank.firstOther(digest.value(), "comparing the plans of all ranks");
  if (!other)
    return tl::unexpected(std::move(other.error()));
  if (*other < 0)
    return {};
  return rank.agree(error("the ranks have different plans", options.planPath,
                          "the plan of rank " + std::to_string(*other) + " is not that of rank 0",
                          "give all ranks the same file"),
                    "comparing the plans of all ranks");
}

double watchdogSeconds(const CommonOptions &options, const Rank &rank) {
  constexpr double others = 5;
  return options.deadline > 0 && rank.communicator() ? options.deadline + others : options.deadline;
}

Expected<OpenedSession> openSession(const CommonOptions &options, TrainLog &log, Rank &rank) {
  auto file = rank.agree(PlanFile::read(options.planPath), "reading the plan");
  if (!file)
    return tl::unexpected(file.error());
  if (Status status = comparePlans(options, file->plan, rank); !status)
    return tl::unexpected(std::move(status.error()));
  plan::Target &target = *file->plan.mutable_target();
  if (options.threads > 0 && options.threads != target.threads()) {
    log.message("note: the plan was compiled for " + std::to_string(target.threads()) + " threads; with " +
                std::to_string(options.threads) + " the last bits of the results may differ");
    target.set_threads(options.threads);
  }
  SessionOptions sessionOptions;
  sessionOptions.device = options.device.empty() ? target.device() : options.device;
  sessionOptions.poison = options.poison;
  sessionOptions.profile = options.profile;
  sessionOptions.choices = options.choices;
  sessionOptions.communicator = rank.communicator();
  OpenedSession opened;
  opened.residentBefore = residentBytes();
  auto session = Session::create(std::move(*file), sessionOptions);
  if (!session && session.error().where.empty())
    session.error().where = options.planPath;
  session = rank.agree(std::move(session), "preparing the plan");
  if (!session)
    return tl::unexpected(std::move(session.error()));
  opened.session = std::move(*session);
  return opened;
}

std::string algorithmsFile(const Arguments &arguments) {
  return arguments.has("save-dir") ? (std::filesystem::path(arguments.text("save-dir")) / "algorithms.json").string()
                                   : std::string();
}

Status initialise(Session &session, const CommonOptions &options) {
  StateSources sources;
  sources.seed = options.seed.value_or(session.plan().training().seed());
  sources.weights = options.weights;
  sources.parameters = options.initState;
  return initialiseState(session, sources);
}

Expected<std::optional<CheckpointFile>> openCheckpoint(const Arguments &arguments, TrainLog &log) {
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

void reportMemory(const OpenedSession &opened, TrainLog &log) {
  const plan::Certificate &certificate = opened.session->plan().certificate();
  LogRecord memory;
  memory["growth_bytes"] = residentBytes() - opened.residentBefore;
  memory["certificate_bytes"] = certificate.total();
  memory["library_overhead_bytes"] = certificate.library_overhead();
  if (log.isJson())
    log.record(LogRecord{{"memory", std::move(memory)}});
  else
    log.message("memory: " + TrainLog::toText(memory));
}

} // namespace moe
