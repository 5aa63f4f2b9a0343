//===- Setup.cpp - What all commands have in common --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Setup.h"

#include "runtime/checkpoint/CheckpointFolder.h"
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
      {"ranks", "N", "ranks of this run; only 1 for now"},
      {"deadline", "SECONDS", "end the run if a step takes longer than this; default: wait"},
      {"poison", "", "fill dead memory with NaN and guard its ends, to find errors of a plan"},
      {"log-format", "FORMAT",
       "json (one line per record on standard output) or progress; default: progress on a "
       "terminal, else json"},
  };
  flags.insert(flags.end(), std::begin(common), std::end(common));
  return flags;
}

Expected<CommonOptions> readCommonOptions(const Arguments &arguments) {
  CommonOptions options;
  options.planPath = arguments.operand;
  options.poison = arguments.has("poison");
  options.weights = arguments.text("weights");
  options.initState = arguments.text("init-state");
  options.device = arguments.text("device");
  auto ranks = arguments.integer("ranks", 1, 1);
  auto threads = arguments.integer("threads", 0, 1, 4096);
  auto seed = arguments.integer("seed", 0, 0);
  auto deadline = arguments.real("deadline", 0, 0, 1e9);
  for (const auto *number : {&ranks, &threads, &seed})
    if (!*number)
      return tl::unexpected(number->error());
  if (!deadline)
    return tl::unexpected(deadline.error());
  if (*ranks != 1)
    return error("more than one rank is not supported by this version", "--ranks " + std::to_string(*ranks),
                 "plans of this version are for one rank", "leave --ranks out");
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
  return options;
}

Expected<OpenedSession> openSession(const CommonOptions &options, TrainLog &log) {
  auto file = PlanFile::read(options.planPath);
  if (!file)
    return tl::unexpected(file.error());
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
  OpenedSession opened;
  opened.residentBefore = residentBytes();
  auto session = Session::create(std::move(*file), sessionOptions);
  if (!session) {
    Diagnostic problem = session.error();
    if (problem.where.empty())
      problem.where = options.planPath;
    return tl::unexpected(std::move(problem));
  }
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
