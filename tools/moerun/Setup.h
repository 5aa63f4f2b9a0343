//===- Setup.h - What all commands have in common ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_SETUP_H
#define MOEC_TOOLS_MOERUN_SETUP_H

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/core/Session.h"
#include "runtime/log/TrainLog.h"
#include "tools/moerun/CommandLine.h"
#include "tools/moerun/Ranks.h"

#include <memory>
#include <optional>

namespace moe {

/// `flags` followed by those that every command takes.
std::vector<Flag> withCommonFlags(std::vector<Flag> flags);

/// Values of the common flags.
struct CommonOptions {
  std::string planPath;
  bool poison = false;
  bool profile = false; ///< measure each step; set by `moerun bench` alone
  int threads = 0;      ///< 0 = as the plan says
  double deadline = 0;
  std::string weights, initState;
  std::string device;  ///< that the plan must be for; empty: any
  std::string choices; ///< see SessionOptions::choices; set by commands that have a folder
  std::optional<uint64_t> seed;
  TrainLog::Format format = TrainLog::Format::Automatic;
};

/// Errors of usage: an unknown --log-format, numbers out of range. Only the first rank logs.
Expected<CommonOptions> readCommonOptions(const Arguments &arguments, const Rank &rank);

/// A session and the memory that the process held before it was prepared.
struct OpenedSession {
  std::unique_ptr<Session> session;
  int64_t residentBefore = 0;
};
/// All ranks have agreed on the outcome. Errors: those of `Session::create`, a rank whose plan is another one.
Expected<OpenedSession> openSession(const CommonOptions &options, TrainLog &log, Rank &rank);

/// `--deadline` for a watchdog: many ranks first hear from those of them that wait for others.
double watchdogSeconds(const CommonOptions &options, const Rank &rank);

/// Where the runs of a folder of checkpoints record what their device chose (see SessionOptions::choices); empty
/// without
/// --save-dir.
std::string algorithmsFile(const Arguments &arguments);

/// First values of the state of this rank, from the plan, the model's weights and --init-state.
Status initialise(Session &session, const CommonOptions &options);

/// The checkpoint that --checkpoint names, or the newest readable one of --save-dir; nothing without these flags. Those
/// that cannot be read go to `log`. Errors: the file cannot be read; the folder has none.
Expected<std::optional<CheckpointFile>> openCheckpoint(const Arguments &arguments, TrainLog &log);

/// Tells how much memory the process has come to hold since before `Prepare`, beside what the plan promised.
void reportMemory(const OpenedSession &opened, TrainLog &log);

const Command &trainCommand();
const Command &evalCommand();
const Command &exportCommand();
const Command &runCommand();
const Command &benchCommand();
const Command &doctorCommand();
Status runTrain(const Arguments &arguments, Rank &rank);
Status runEval(const Arguments &arguments, Rank &rank);
Status runExport(const Arguments &arguments, Rank &rank);
Status runRun(const Arguments &arguments, Rank &rank);
Status runBench(const Arguments &arguments, Rank &rank);
Status runDoctor(const Arguments &arguments, Rank &rank);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_SETUP_H
