//===- CompilerSession.h - From a model file to the module of a phase -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_COMPILERSESSION_H
#define MOEC_TOOLS_MOEC_COMPILERSESSION_H

#include "frontend/models/Flags.h"
#include "frontend/recipe/Recipe.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "passes/Pipeline.h"

#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

namespace moe::tools {

/// Flags that every command that compiles shares.
struct CompileFlags {
  std::string model, recipe, target = "cpu:native", fsdp = "off", recompute = "none", overlap = "on", memory, dumpDir;
  int64_t ranks = 1, expertParallel = 1, threads = 0;
  bool noRecompose = false;
  std::vector<std::string> bind, set;

  std::vector<models::Flag> table();
  /// What is not implemented yet or makes no sense; all of it.
  std::vector<Diagnostic> check() const;
};

/// What a pass or a verifier says, as a diagnostic of ours: its notes are reasons, a note that begins with "try: " is
/// the remedy.
Diagnostic fromMlir(mlir::Diagnostic &diagnostic);

/// Prints diagnostics, one after the other; returns the highest exit code among them.
int report(const std::vector<Diagnostic> &found, std::ostream &err);

/// Owns the MLIR context; diagnostics of passes are printed to `err` as they come.
class CompilerSession {
public:
  explicit CompilerSession(std::ostream &err);
  ~CompilerSession();

  /// Imports the model with its recipe and runs the phases up to `last`; null after an error has been reported.
  mlir::ModuleOp run(const CompileFlags &flags, ir::Phase last);

  /// The recipe in force, in canonical form.
  std::string recipeText() const;
  mlir::MLIRContext &context() { return mlirContext; }
  /// Text of the module with names of values.
  static std::string print(mlir::ModuleOp module);

private:
  std::ostream &err;
  mlir::MLIRContext mlirContext;
  std::unique_ptr<mlir::ScopedDiagnosticHandler> handler;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string recipe;
};

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_COMPILERSESSION_H
