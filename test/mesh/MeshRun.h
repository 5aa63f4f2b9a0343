//===- MeshRun.h - One model, trained on meshes by the interpreter ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_MESH_MESHRUN_H
#define MOEC_TEST_MESH_MESHRUN_H

#include "ir/reference/Interpreter.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace moe::test {

/// A small preset: sequences of 4 tokens, two layers of which the second has experts; dropout everywhere.
struct ModelSpec {
  bool top1 = false;
  int64_t groups = 4, accumulate = 1;
  int64_t sequences = 16, experts = 16;
  std::string optimizer = "{name: sgd, lr: 0.5}";
  double clipNorm = 0.05;
  double gateLossWeight = 0.1;
  /// Parameter whose last expert is far too large at first: no gradient it takes part in is finite. Empty: none.
  std::string huge;
  /// An exported model to take in place of the preset (`top1` and `groups` say nothing then), the rest of its recipe,
  /// and what to do to it first, in float32.
  std::string onnx, recipe;
  std::function<void(mlir::ModuleOp)> change;
};

/// How it is made parallel.
struct Parallel {
  int64_t data = 1, expert = 1;
  std::string fsdp = "off";
  /// Empty: the module of the phase `update`, whose types have layouts. Otherwise that of the phase `recompute` with
  /// this policy: the fused program of one rank, whose operations between ranks say with whom.
  std::string recompute;
  std::string name() const;
};

/// What training left.
struct Trained {
  std::vector<double> loss, gnorm, clip;
  /// Of update 0, before clipping, sums over the update's tokens; and after the last update. Whole tensors.
  std::map<std::string, ir::HostTensor> gradients, weights;
  /// In update 0: with two choices the share of first ones that found no slot; with one, which has no such metric, the
  /// number of experts that nobody chose. There are as many slots as tokens then, so other tokens found none.
  double overflow = 0;
  /// Operations of a micro-step that are computed again in the backward.
  int64_t recomputed = 0;
};

class MeshModel {
public:
  /// Writes the preset, or takes the export, imports it and widens it to float64.
  explicit MeshModel(const ModelSpec &spec);

  /// The module on a mesh, at the phase that `how` asks for. Null, with `messages`, after an error.
  mlir::OwningOpRef<mlir::ModuleOp> parallel(const Parallel &how, std::string &messages);

  /// Trains `updates` updates on random tokens and weights that depend on the model alone. Empty, with `messages`,
  /// after an error, or if ranks differ in what should be equal.
  std::optional<Trained> train(const Parallel &how, int updates, std::string &messages);

private:
  ModelSpec spec;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> imported;
};

} // namespace moe::test

#endif // MOEC_TEST_MESH_MESHRUN_H
