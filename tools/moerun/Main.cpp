//===- Main.cpp - Runs plans -------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/LineWriter.h"
#include "tools/moerun/Ranks.h"
#include "tools/moerun/Setup.h"

#include <csignal>
#include <exception>
#include <new>

using namespace moe;

namespace {
struct Entry {
  const Command &(*command)();
  Status (*run)(const Arguments &arguments, Rank &rank);
  bool isRanked; ///< may run on many ranks
};
} // namespace

static constexpr Entry entries[] = {{trainCommand, runTrain, true},   {evalCommand, runEval, true},
                                    {exportCommand, runExport, true}, {runCommand, runRun, true},
                                    {benchCommand, runBench, false},  {doctorCommand, runDoctor, false}};

static std::string overview() {
  std::string text = "usage: moerun COMMAND [PLAN] [flags]\n\nRuns plans that `moec compile` has made.\n\n";
  for (const Entry &entry : entries) {
    std::string name = "  " + std::string(entry.command().name);
    name.resize(10, ' ');
    text += name + std::string(entry.command().summary) + "\n";
  }
  return text + "\n`moerun COMMAND --help` lists the flags of a command; `moerun --version` prints the version.\n";
}

static int fail(const Diagnostic &problem) {
  LineWriter(2).line(problem.str());
  return static_cast<int>(problem.code);
}

static int usageError(std::string what, std::string why) {
  return fail({std::move(what), {}, std::move(why), "`moerun --help` lists the commands", ExitCode::Usage});
}

static void print(std::string text) {
  if (text.ends_with('\n'))
    text.pop_back();
  LineWriter(1).line(text);
}

static int dispatch(std::span<const char *const> words) {
  if (words.empty())
    return usageError("no command given", "the commands are train, eval, export, run, bench and doctor");
  std::string_view name = words[0];
  if (name == "--help" || name == "-h" || name == "help") {
    print(overview());
    return 0;
  }
  if (name == "--version") {
    print("moerun " MOEC_VERSION);
    return 0;
  }
  std::vector<std::string_view> names = {"--help", "--version"};
  for (const Entry &entry : entries) {
    const Command &command = entry.command();
    names.push_back(command.name);
    if (command.name != name)
      continue;
    auto arguments = parseArguments(command, words.subspan(1));
    if (!arguments)
      return fail(arguments.error());
    if (arguments->help) {
      print(helpText(command));
      return 0;
    }
    if (entry.isRanked)
      return runOnRanks(entry.run, *arguments);
    Rank alone;
    Status status = entry.run(*arguments, alone);
    return status ? 0 : fail(status.error());
  }
  std::string nearest = nearestName(name, names);
  return usageError("unknown command '" + std::string(name) + "'",
                    nearest.empty() ? "" : "did you mean " + nearest + "?");
}

int main(int argc, char **argv) {
  // A reader that goes away and a file that may not grow are errors of a write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return dispatch(std::span<const char *const>(argv + 1, size_t(std::max(argc - 1, 0))));
  } catch (const std::bad_alloc &) {
    return fail({"out of memory", {}, {}, "compile for a smaller batch, or use a machine with more memory"});
  } catch (const std::exception &problem) {
    return fail({"internal error", {}, problem.what(), "please report it with the command line", ExitCode::Internal});
  }
}
