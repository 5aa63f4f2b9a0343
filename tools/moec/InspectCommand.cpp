//===- InspectCommand.cpp - moec inspect --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/InspectCommand.h"

#include "frontend/models/Flags.h"
#include "tools/moec/CompilerSession.h"
#include "tools/moec/InspectModel.h"
#include "tools/moec/InspectPlan.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>

namespace moe::tools {

namespace {

struct Arguments {
  InspectModelOptions model;
  std::string steps;
  bool help = false, json = false;
  std::vector<std::string> positional;
};

/// Whether a file is a plan, by its first bytes; also true for a plan that was cut off within them, so that the reader
/// of plans says so. No ONNX message starts with these bytes.
Expected<bool> isPlan(const std::string &path) {
  constexpr char kMagic[] = {'M', 'O', 'E', 'P', 'L', 'A', 'N', '\0'};
  char start[sizeof(kMagic)];
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  file.read(start, sizeof(start));
  if (!file.is_open() || file.bad())
    return error("cannot read the file", path, std::strerror(errno), "check the path");
  const auto bytes = static_cast<size_t>(file.gcount());
  return bytes > 0 && std::memcmp(start, kMagic, bytes) == 0;
}

/// JSON text; bytes that are no UTF-8 (names in foreign files) become replacement characters.
std::string dump(const nlohmann::ordered_json &json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

int inspectPlan(const Arguments &args, std::ostream &out, std::ostream &err) {
  if (args.model.wantsPrograms())
    return report({{"--bind, --recipe and --set are about models, this is a plan",
                    args.positional.front(),
                    {},
                    "its recipe and sizes were fixed by `moec compile`",
                    ExitCode::Usage}},
                  err);
  Expected<PlanFile> file = readPlan(args.positional.front());
  if (!file)
    return report({file.error()}, err);
  if (args.steps.empty()) {
    out << (args.json ? dump(describePlan(file->plan, args.positional.front()))
                      : planText(file->plan, args.positional.front()));
    return 0;
  }
  Expected<const plan::Program *> program = findProgram(file->plan, args.steps, "--steps");
  if (!program)
    return report({program.error()}, err);
  if (!args.json) {
    out << stepsText(file->plan, **program);
    return 0;
  }
  nlohmann::ordered_json json = describePlan(file->plan, args.positional.front());
  json["program"] = args.steps;
  json["steps"] = describeSteps(file->plan, **program);
  out << dump(json);
  return 0;
}

int inspectModel(const Arguments &args, std::ostream &out, std::ostream &err) {
  if (!args.steps.empty())
    return report({{"--steps is about plans, this is none",
                    args.positional.front(),
                    {},
                    "compile the model with `moec compile` first",
                    ExitCode::Usage}},
                  err);
  std::vector<Diagnostic> found;
  const nlohmann::ordered_json json = describeModel(args.positional.front(), args.model, found);
  if (!json.is_null())
    out << (args.json ? dump(json) : modelText(json));
  return report(found, err);
}

} // namespace

int runInspectCommand(const std::vector<std::string> &words, std::ostream &out, std::ostream &err) {
  Arguments args;
  std::vector<models::Flag> flags = {
      {"--bind", &args.model.bind, "model: size of a symbolic dimension, as batch=16; may be repeated; shows programs"},
      {"--recipe", &args.model.recipe, "model: YAML file that `moec compile` would be given"},
      {"--set", &args.model.set, "model: recipe key, as optimizer.lr=1e-3; may be repeated"},
      {"--steps", &args.steps, "plan: list every step of this program"},
      {"--json", &args.json, "one JSON object"},
      {"--help", &args.help, "show this"},
  };
  const std::string description = models::describeFlags(flags);
  std::vector<Diagnostic> found = models::parseFlags(flags, words, &args.positional);
  if (args.help) {
    out << "usage: moec inspect MODEL.onnx|PLAN.moe [FLAGS]\n\nflags:\n" << description;
    return 0;
  }
  if (args.positional.size() != 1)
    found.push_back({args.positional.empty() ? "no file given" : "more than one file given",
                     {},
                     {},
                     "moec inspect MODEL.onnx or moec inspect PLAN.moe",
                     ExitCode::Usage});
  if (int code = report(found, err))
    return code;
  Expected<bool> plan = isPlan(args.positional.front());
  if (!plan)
    return report({plan.error()}, err);
  return *plan ? inspectPlan(args, out, err) : inspectModel(args, out, err);
}

} // namespace moe::tools
