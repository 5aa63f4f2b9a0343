//===- main.cpp - moec, the compiler ------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/Flags.h"
#include "frontend/models/ModelCommand.h"
#include "runtime/core/Diagnostic.h"
#include "tools/moec/CompileCommand.h"
#include "tools/moec/GraphCommand.h"
#include "tools/moec/InspectCommand.h"
#include <iostream>

namespace {

struct Command {
  const char *name, *help;
  int (*run)(const std::vector<std::string> &args, std::ostream &out, std::ostream &err);
};

constexpr Command kCommands[] = {
    {"model", "write a preset model as an ONNX file", moe::models::runModelCommand},
    {"compile", "compile a model into a plan", moe::tools::runCompileCommand},
    {"inspect", "show what is in a model or a plan", moe::tools::runInspectCommand},
    {"graph", "draw the steps of a plan", moe::tools::runGraphCommand},
};

std::string usage() {
  std::string text = "usage: moec COMMAND [ARGUMENTS]\n\ncommands (moec COMMAND --help says more):\n";
  for (const Command &command : kCommands)
    text += std::string("  ") + command.name + "  " + command.help + "\n";
  return text + "\n  --version  print the version\n  --help     show this\n";
}

} // namespace

int main(int argc, char **argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.empty()) {
    std::cerr << usage();
    return static_cast<int>(moe::ExitCode::Usage);
  }
  if (args[0] == "--help") {
    std::cout << usage();
    return 0;
  }
  if (args[0] == "--version") {
    std::cout << "moec " MOEC_VERSION "\n";
    return 0;
  }
  std::vector<std::string> names;
  for (const Command &command : kCommands) {
    if (args[0] == command.name)
      return command.run({args.begin() + 1, args.end()}, std::cout, std::cerr);
    names.emplace_back(command.name);
  }
  moe::Diagnostic unknown{"unknown command '" + args[0] + "'",
                          {},
                          {},
                          "did you mean " + moe::models::nearest(args[0], names) + "?",
                          moe::ExitCode::Usage};
  std::cerr << unknown.str() << '\n';
  return static_cast<int>(unknown.code);
}
