//===- CompileCommand.cpp - moec compile ------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/CompileCommand.h"

#include "codegen/plan/EmitPlan.h"
#include "passes/Rematerialize.h"
#include "runtime/plan/Validator.h"
#include "tools/moec/CompilerSession.h"
#include "tools/moec/Report.h"

#include <fstream>
#include <ostream>

using namespace mlir;

namespace moe::tools {

namespace {

struct Arguments {
  CompileFlags flags;
  std::string output, emit;
  bool help = false, json = false;
  std::vector<std::string> positional;
};

/// `80GiB`, `512MiB`, `1e9`: bytes; nothing for anything else.
std::optional<double> parseBytes(const std::string &text) {
  size_t used = 0;
  double value = 0;
  const char *begin = text.c_str();
  char *end = nullptr;
  value = std::strtod(begin, &end);
  used = static_cast<size_t>(end - begin);
  std::string unit = text.substr(used);
  if (used == 0 || value < 0)
    return std::nullopt;
  const std::pair<const char *, double> units[] = {
      {"", 1}, {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0}};
  for (auto [name, factor] : units)
    if (unit == name)
      return value * factor;
  return std::nullopt;
}

int emitPhase(const Arguments &args, ir::Phase phase, std::ostream &out, std::ostream &err) {
  CompilerSession session(err);
  ModuleOp module = session.run(args.flags, phase);
  if (!module)
    return static_cast<int>(ExitCode::User);
  std::string text = CompilerSession::print(module);
  if (args.output.empty()) {
    out << text << '\n';
    return 0;
  }
  std::ofstream file(args.output);
  file << text << '\n';
  file.close();
  if (!file)
    return report({{"cannot write the module", args.output, "", "choose a writable path"}}, err);
  return 0;
}

/// What `recompute` has left in the module.
std::optional<KeptBytes> keptBytes(ModuleOp module) {
  auto recompute = module->getAttrOfType<DictionaryAttr>(ir::kRecomputeAttr);
  if (!recompute)
    return std::nullopt;
  auto bytes = [&](StringRef key) { return static_cast<uint64_t>(recompute.getAs<IntegerAttr>(key).getInt()); };
  return KeptBytes{recompute.getAs<StringAttr>("policy").str(), bytes("kept_bytes"), bytes("kept_bytes_without")};
}

int compile(const Arguments &args, std::ostream &out, std::ostream &err) {
  CompilerSession session(err);
  ModuleOp module = session.run(args.flags, ir::Phase::Place);
  if (!module)
    return static_cast<int>(ExitCode::User);
  FailureOr<plan::Certificate> certificate = codegen::makeCertificate(module);
  if (failed(certificate))
    return static_cast<int>(ExitCode::Internal);
  if (std::optional<double> memory = parseBytes(args.flags.memory)) { // no size: no limit; others were refused before
    double limit = *memory;
    double need = static_cast<double>(certificate->total() + certificate->library_overhead());
    if (need > limit)
      return report({{"the plan needs " + bytesText(need) + ", more than --memory " + args.flags.memory,
                      args.flags.model, "it is short of " + bytesText(need - limit), "bind a smaller batch"}},
                    err);
  }
  codegen::EmitPlanOptions options;
  options.producer = "moec " MOEC_VERSION;
  options.recipe = session.recipeText();
  FailureOr<PlanFile> file = codegen::emitPlan(module, options);
  if (failed(file))
    return static_cast<int>(ExitCode::Internal);
  // The validator shares no code with what made the plan; what it finds is our fault, not the user's.
  if (auto status = validate(file->plan).status(); !status) {
    Diagnostic diagnostic = status.error();
    diagnostic.code = ExitCode::Internal;
    return report({diagnostic}, err);
  }
  if (auto written = file->write(args.output); !written)
    return report({written.error()}, err);
  std::optional<KeptBytes> kept = keptBytes(module);
  out << (args.json ? planReportJson(file->plan, kept) : planReport(file->plan, args.output, kept));
  return 0;
}

} // namespace

int runCompileCommand(const std::vector<std::string> &words, std::ostream &out, std::ostream &err) {
  Arguments args;
  std::vector<models::Flag> flags = args.flags.table();
  flags.push_back({"-o", &args.output, "the plan to write"});
  flags.push_back({"--emit", &args.emit, "print the module after a phase instead: " + ir::phaseList()});
  flags.push_back({"--json", &args.json, "report as JSON"});
  flags.push_back({"--help", &args.help, "show this"});
  std::string description = models::describeFlags(flags);
  std::vector<Diagnostic> found = models::parseFlags(flags, words, &args.positional);
  if (args.help) {
    out << "usage: moec compile MODEL.onnx [FLAGS] -o PLAN.moe\n\nflags:\n" << description;
    return 0;
  }
  auto usage = [&](std::string what, std::string remedy) {
    found.push_back({std::move(what), "", "", std::move(remedy), ExitCode::Usage});
  };
  std::optional<ir::Phase> phase = args.emit.empty() ? std::nullopt : ir::parsePhase(args.emit);
  if (args.positional.size() != 1)
    usage(args.positional.empty() ? "no model given" : "more than one model given",
          "moec compile MODEL.onnx -o PLAN.moe");
  if (args.emit.empty() && args.output.empty())
    usage("no plan to write", "add -o PLAN.moe");
  if (!args.emit.empty() && (!phase || *phase == ir::Phase::Codegen))
    usage("--emit " + args.emit + " prints nothing", "phases with a module: " + ir::phaseList());
  if (!args.flags.memory.empty() && !parseBytes(args.flags.memory))
    usage("--memory " + args.flags.memory + " is no amount", "write it as 80GiB");
  for (Diagnostic &diagnostic : args.flags.check())
    found.push_back(std::move(diagnostic));
  if (int code = report(found, err))
    return code;
  args.flags.model = args.positional.front();
  return phase ? emitPhase(args, *phase, out, err) : compile(args, out, err);
}

} // namespace moe::tools
