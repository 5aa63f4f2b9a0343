//===- CompilerSession.cpp - From a model file to the module of a phase -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/CompilerSession.h"

#include "codegen/targets/Targets.h"
#include "frontend/onnx/Import.h"
#include "ir/Dialect.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <ostream>
#include <thread>

using namespace mlir;

namespace moe::tools {

std::vector<models::Flag> CompileFlags::table() {
  return {
      {"--recipe", &recipe, "YAML file: loss, optimizer, schedule, precision, …; default: AdamW on the output `loss`"},
      {"--set", &set, "recipe key, as optimizer.lr=1e-3; wins over the file; may be repeated"},
      {"--bind", &bind, "size of a symbolic dimension, as batch=16 or eval.batch=1; may be repeated"},
      {"--target", &target, codegen::knownTargets().str()},
      {"--threads", &threads, "threads per rank; 0: all cores of this machine"},
      {"--ranks", &ranks, "number of ranks"},
      {"--expert-parallel", &expertParallel, "ranks that share out the experts"},
      {"--fsdp", &fsdp, "off, optimizer or full"},
      {"--no-recompose", &noRecompose, "leave attention, norms and activations as the fine operations of the file"},
      {"--recompute", &recompute,
       "activations computed again in the backward: none, or full: of each layer only its input is kept"},
      {"--overlap", &overlap, "collectives run while something else is computed, or not: on or off"},
      {"--memory", &memory, "fail if a rank needs more, as 80GiB"},
      {"--dump-dir", &dumpDir, "write the module after each phase into this folder"},
  };
}

std::vector<Diagnostic> CompileFlags::check() const {
  std::vector<Diagnostic> found;
  if (ranks < 1 || expertParallel < 1)
    found.push_back({"--ranks and --expert-parallel must be at least 1", "", "", "", ExitCode::Usage});
  else if (ranks % expertParallel != 0)
    found.push_back(
        {"--expert-parallel " + std::to_string(expertParallel) + " does not divide --ranks " + std::to_string(ranks),
         "", "the mesh is data x expert, and its ranks are --ranks", "", ExitCode::Usage});
  if (fsdp != "off" && fsdp != "optimizer" && fsdp != "full")
    found.push_back({"--fsdp " + fsdp + " does not exist", "", "", "use off, optimizer or full", ExitCode::Usage});
  if (recompute != "none" && recompute != "full")
    found.push_back({"--recompute " + recompute + " does not exist", "", "", "use none or full", ExitCode::Usage});
  if (overlap != "on" && overlap != "off")
    found.push_back({"--overlap " + overlap + " does not exist", "", "", "use on or off", ExitCode::Usage});
  if (std::string reason; !codegen::createTarget(target, 1, reason))
    found.push_back({"--target " + target + " does not exist", "", reason, "", ExitCode::Usage});
  frontend::ImportOptions unused;
  for (const std::string &binding : bind)
    if (auto status = frontend::addBinding(binding, unused); !status)
      found.push_back(status.error());
  return found;
}

Diagnostic fromMlir(mlir::Diagnostic &diagnostic) {
  Diagnostic result{diagnostic.str(), {}, {}, {}};
  if (auto name = dyn_cast<NameLoc>(diagnostic.getLocation()))
    result.where = name.getName().str();
  else if (!isa<UnknownLoc>(diagnostic.getLocation()))
    llvm::raw_string_ostream(result.where) << diagnostic.getLocation();
  for (mlir::Diagnostic &note : diagnostic.getNotes()) {
    std::string text = note.str();
    if (StringRef remedy = text; remedy.consume_front("try: "))
      result.remedy = remedy.str();
    else
      result.why += (result.why.empty() ? "" : "\n") + text;
  }
  return result;
}

int report(const std::vector<Diagnostic> &found, std::ostream &err) {
  int code = 0;
  for (const Diagnostic &diagnostic : found) {
    err << diagnostic.str() << '\n';
    code = std::max(code, static_cast<int>(diagnostic.code));
  }
  return code;
}

CompilerSession::CompilerSession(std::ostream &err) : err(err) {
  mlirContext.loadDialect<ir::MoeDialect, func::FuncDialect>();
  mlirContext.printOpOnDiagnostic(false); // of a function that would be the whole model
  handler = std::make_unique<ScopedDiagnosticHandler>(&mlirContext, [this](mlir::Diagnostic &diagnostic) {
    moe::Diagnostic ours = fromMlir(diagnostic);
    if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
      ours.code = ExitCode::Success;
    this->err << ours.str() << '\n';
    return success();
  });
}

CompilerSession::~CompilerSession() = default;

std::string CompilerSession::recipeText() const {
  return recipe;
}

std::string CompilerSession::print(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  OpPrintingFlags flags;
  flags.elideLargeElementsAttrs(64).printNameLocAsPrefix();
  module.print(os, flags);
  return text;
}

ModuleOp CompilerSession::run(const CompileFlags &flags, ir::Phase last) {
  std::vector<moe::Diagnostic> found;
  std::optional<frontend::Recipe> parsed = frontend::readRecipe(flags.recipe, flags.set, found);
  if (!parsed) {
    report(found, err);
    return {};
  }
  recipe = frontend::print(*parsed);
  frontend::ImportOptions options;
  for (const std::string &binding : flags.bind)
    if (auto status = frontend::addBinding(binding, options); !status)
      found.push_back(status.error());
  if (report(found, err) != 0)
    return {};
  options.routingGroups = parsed->routingGroups;
  options.parameters = parsed->parameters;
  options.ties = parsed->tie;
  options.seed = parsed->seed;
  module = frontend::importOnnx(mlirContext, flags.model, options, found);
  report(found, err);
  if (!module)
    return {};
  if (auto status = frontend::applyLoss(*module, *parsed); !status) {
    report({status.error()}, err);
    return {};
  }
  frontend::setTraining(*module, *parsed);

  if (!flags.dumpDir.empty())
    if (std::error_code error = llvm::sys::fs::create_directories(flags.dumpDir)) {
      report({{"cannot create the folder of --dump-dir", flags.dumpDir, error.message(), ""}}, err);
      return {};
    }
  ir::PipelineOptions pipeline;
  pipeline.compute = frontend::name(parsed->precision.compute);
  pipeline.recompute = flags.recompute;
  pipeline.overlap = flags.overlap == "on";
  pipeline.dataParallel = flags.ranks / flags.expertParallel;
  pipeline.expertParallel = flags.expertParallel;
  pipeline.fsdp = flags.fsdp;
  pipeline.recompose = !flags.noRecompose;
  pipeline.target = flags.target;
  // Ranks of one machine share its cores.
  const auto cores = static_cast<int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  pipeline.threads = flags.threads == 0 && flags.ranks > 1 ? std::max<int64_t>(1, cores / flags.ranks) : flags.threads;
  pipeline.last = last;
  bool written = true;
  pipeline.observe = [&](ir::Phase phase, ModuleOp at) {
    if (flags.dumpDir.empty())
      return;
    std::string path;
    llvm::raw_string_ostream(path) << flags.dumpDir << '/' << llvm::format("%02d", static_cast<int>(phase) + 1) << '-'
                                   << ir::phaseName(phase) << ".mlir";
    std::error_code error;
    llvm::raw_fd_ostream os(path, error);
    if (!error)
      os << print(at) << '\n';
    os.close();
    if (error || os.has_error()) {
      report({{"cannot write a dump", path, (error ? error : os.error()).message(), ""}}, err);
      os.clear_error();
      written = false;
    }
  };
  if (failed(ir::runPhases(*module, pipeline)) || !written)
    return {};
  return *module;
}

} // namespace moe::tools
