//===- GraphCommand.cpp - moec graph ------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/GraphCommand.h"

#include "frontend/models/Flags.h"
#include "tools/moec/CompilerSession.h"
#include "tools/moec/InspectPlan.h"
#include "tools/moec/PlanGraph.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <ostream>

namespace moe::tools {

namespace {

struct Arguments {
  std::string format = "dot", program = "micro_step", output;
  bool help = false;
  std::vector<std::string> positional;
};

std::vector<Diagnostic> check(const Arguments &args) {
  std::vector<Diagnostic> found;
  if (args.positional.size() != 1)
    found.push_back({args.positional.empty() ? "no plan given" : "more than one plan given",
                     {},
                     {},
                     "moec graph PLAN.moe",
                     ExitCode::Usage});
  if (args.format == "html" || args.format == "trace")
    found.push_back({"--format " + args.format + " is planned, not implemented yet", {}, {}, "use --format dot"});
  else if (args.format != "dot")
    found.push_back(
        {"--format " + args.format + " does not exist", {}, {}, "use dot; planned: html, trace", ExitCode::Usage});
  return found;
}

Status writeText(const std::string &path, const std::string &text) {
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file)
    return error("cannot write the graph", path, std::strerror(errno), "choose a writable path");
  return {};
}

} // namespace

int runGraphCommand(const std::vector<std::string> &words, std::ostream &out, std::ostream &err) {
  Arguments args;
  std::vector<models::Flag> flags = {
      {"--format", &args.format, "dot; planned: html, trace"},
      {"--program", &args.program, "which program of the plan"},
      {"-o", &args.output, "the file to write; default: standard output"},
      {"--help", &args.help, "show this"},
  };
  const std::string description = models::describeFlags(flags);
  std::vector<Diagnostic> found = models::parseFlags(flags, words, &args.positional);
  if (args.help) {
    out << "usage: moec graph PLAN.moe [FLAGS]\n\nflags:\n" << description;
    return 0;
  }
  for (Diagnostic &diagnostic : check(args))
    found.push_back(std::move(diagnostic));
  if (int code = report(found, err))
    return code;
  Expected<PlanFile> file = readPlan(args.positional.front());
  if (!file)
    return report({file.error()}, err);
  Expected<const plan::Program *> program = findProgram(file->plan, args.program, "--program");
  if (!program)
    return report({program.error()}, err);
  const std::string text = planGraphDot(file->plan, **program);
  if (args.output.empty())
    out << text;
  else if (Status written = writeText(args.output, text); !written)
    return report({written.error()}, err);
  return 0;
}

} // namespace moe::tools
