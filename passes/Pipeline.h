//===- Pipeline.h - The phases in order -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_PIPELINE_H
#define MOEC_PASSES_PIPELINE_H

#include "mlir/IR/BuiltinOps.h"
#include "passes/CheapValues.h"

#include <functional>
#include <optional>
#include <string>

namespace moe::ir {

/// Names of the phases (design §3); the module after a phase is what `--emit=PHASE` prints.
enum class Phase {
  Import,
  Recompose,
  Precision,
  Shard,
  Differentiate,
  Update,
  Fuse,
  Recompute,
  Select,
  Bufferize,
  Schedule,
  Place,
  Codegen
};

llvm::StringRef phaseName(Phase phase);
std::optional<Phase> parsePhase(llvm::StringRef name);
/// "import, recompose, …"
std::string phaseList();

struct PipelineOptions {
  std::string compute = "f32";
  /// Whether attention, norms and activations are looked for in fine operations.
  bool recompose = true;
  /// What is computed again in the backward instead of kept: none or full.
  std::string recompute = "none";
  /// Which single tensors are worth it; by default what `recompute` thinks.
  std::optional<CheapOptions> cheap = std::nullopt;
  /// Ranks of the mesh: `data` x `expert`.
  int64_t dataParallel = 1, expertParallel = 1;
  /// Where state lies that all ranks would have: `off`, `optimizer` or `full` (see `insert-fsdp`).
  std::string fsdp = "off";
  /// Whether collectives run while something else is computed; bits do not depend on it.
  bool overlap = true;
  std::string target = "cpu:native";
  int64_t threads = 0;
  /// The last phase to run.
  Phase last = Phase::Place;
  /// Called after each phase, the import included.
  std::function<void(Phase, mlir::ModuleOp)> observe;
};

/// Takes an imported module through the phases up to `options.last` (`codegen` is the caller's). A verifier runs at
/// every boundary. Fails with diagnostics.
llvm::LogicalResult runPhases(mlir::ModuleOp module, const PipelineOptions &options);

} // namespace moe::ir

#endif // MOEC_PASSES_PIPELINE_H
