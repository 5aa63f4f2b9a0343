//===- Pipeline.cpp - The phases in order -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Pipeline.h"

#include "ir/Dialect.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

namespace {

constexpr StringLiteral kNames[] = {"import",   "recompose", "precision", "shard",  "differentiate",
                                    "update",   "fuse",      "recompute", "select", "bufferize",
                                    "schedule", "place",     "codegen"};

/// The passes of one phase. Read from top to bottom this is the compiler.
void addPhase(PassManager &pm, Phase phase, const PipelineOptions &options) {
  switch (phase) {
  // The frontend has made the module: logical tensors, one function per program, weights referenced by name.
  case Phase::Import:
    break;
  // Coarse operations are found, data movement is folded into the operations that read it.
  case Phase::Recompose: {
    RecomposeOptions recompose;
    recompose.coarse = options.recompose;
    pm.addPass(createRecompose(recompose));
    pm.addPass(createSimplify());
    if (options.recompose) {
      RecomposeExpertsOptions experts;
      experts.groups = options.dataParallel;
      experts.parts = options.expertParallel;
      pm.addPass(createRecomposeExperts(experts));
      pm.addPass(createSimplify());
    }
    break;
  }
  // The compute type becomes casts around the operations that gain from it.
  case Phase::Precision: {
    AssignPrecisionOptions precision;
    precision.compute = options.compute;
    precision.target = options.target;
    pm.addPass(createAssignPrecision(precision));
    break;
  }
  // From here on every tensor type says how it lies on the mesh. First everything is everywhere; then the batch is
  // split, then the experts, then state.
  case Phase::Shard: {
    ShardOptions shard;
    shard.axes = {"data", "expert"};
    shard.sizes = {options.dataParallel, options.expertParallel};
    pm.addPass(createShard(shard));
    pm.addPass(createInsertDataParallel());
    pm.addPass(createInsertExpertParallel());
    InsertFsdpOptions fsdp;
    fsdp.mode = options.fsdp;
    pm.addPass(createInsertFsdp(fsdp));
    break;
  }
  // Forward and backward in one block; equal pieces of both are computed once.
  case Phase::Differentiate:
    pm.addPass(createDifferentiate());
    pm.addPass(createSimplify());
    break;
  // Norm, clipping, optimizer, metrics: all that happens between two micro-steps, on the device.
  case Phase::Update:
    pm.addPass(createInsertUpdate());
    pm.addPass(createInsertEvaluation());
    pm.addPass(createSimplify());
    break;
  // What no library computes is written in fine operations and grouped into kernels. Pieces that forward and backward
  // of an operation have in common (the erf of a GELU) are computed twice: keeping them would cost more memory than
  // time.
  case Phase::Fuse: {
    pm.addPass(createDecomposeCoarse());
    SimplifyOptions simplify;
    simplify.merge = false;
    pm.addPass(createSimplify(simplify));
    pm.addPass(createFuseEpilogues());
    pm.addPass(createFuse());
    break;
  }
  // Chosen values are computed again in the backward instead of kept. By the kernels that computed them: grouped anew
  // they might be rounded elsewhere.
  case Phase::Recompute: {
    RecomputeOptions recompute;
    recompute.policy = options.recompute;
    if (options.cheap) {
      recompute.cheapBytes = static_cast<int64_t>(options.cheap->minBytes);
      recompute.cheapSteps = options.cheap->minSteps;
      recompute.cheapFlops = options.cheap->minFlops;
    }
    pm.addPass(createRecompute(recompute));
    // What order serves memory best, whatever the policy.
    pm.addPass(createOrderCollectives());
    break;
  }
  // Per operation: kernel or library, tiles, scratch.
  case Phase::Select: {
    SelectOptions select;
    select.target = options.target;
    select.threads = options.threads;
    pm.addPass(createSelect(select));
    break;
  }
  case Phase::Bufferize:
    pm.addPass(createBufferize());
    break;
  case Phase::Schedule:
    pm.addPass(createSchedule());
    if (options.overlap)
      pm.addPass(createOverlap());
    break;
  case Phase::Place:
    pm.addPass(createPlace());
    break;
  case Phase::Codegen:
    break;
  }
  VerifyPhaseOptions verify;
  verify.phase = kNames[static_cast<int>(phase)].str();
  pm.addPass(createVerifyPhase(verify));
}

} // namespace

StringRef phaseName(Phase phase) {
  return kNames[static_cast<int>(phase)];
}

std::optional<Phase> parsePhase(StringRef name) {
  for (auto [i, known] : llvm::enumerate(kNames))
    if (known == name)
      return static_cast<Phase>(i);
  return std::nullopt;
}

std::string phaseList() {
  std::string list;
  for (StringRef name : kNames)
    list += (list.empty() ? "" : ", ") + name.str();
  return list;
}

LogicalResult runPhases(ModuleOp module, const PipelineOptions &options) {
  for (int i = 0; i <= static_cast<int>(std::min(options.last, Phase::Place)); ++i) {
    auto phase = static_cast<Phase>(i);
    PassManager pm(module.getContext());
    addPhase(pm, phase, options);
    if (failed(pm.run(module)))
      return failure();
    if (options.observe)
      options.observe(phase, module);
  }
  return success();
}

} // namespace moe::ir
