//===- Recipe.h - How a model is trained --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// A recipe is a YAML file (JSON is YAML). Every key has a default; an empty recipe minimises the output `loss` with
// AdamW. All keys and their formulas: README.md beside this file.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_RECIPE_RECIPE_H
#define MOEC_FRONTEND_RECIPE_RECIPE_H

#include "mlir/IR/BuiltinOps.h"
#include "runtime/core/Diagnostic.h"
#include "llvm/ADT/ArrayRef.h"
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moe::frontend {

/// Which scalar is minimised.
struct Loss {
  /// Mean over the labels that differ from `ignoreIndex` of the cross-entropy of `logits` [..., V] against `labels`
  /// [...], in nats; no shift. With smoothing s the target is (1 - s) on the label plus s / V everywhere.
  struct CrossEntropy {
    std::string logits = "logits";
    std::string labels = "labels";
    int64_t ignoreIndex = -100;
    double labelSmoothing = 0.0;
  };
  std::string output = "loss";
  std::optional<CrossEntropy> crossEntropy;
};

enum class OptimizerName { Sgd, Adam, AdamW, FairseqAdam };

/// sgd: p -= lr (g + wd p), with momentum b: m = b m + g + wd p, p -= lr m. adam: decay added to the gradient. adamw:
/// decay lr wd p apart from the step (Loshchilov and Hutter, arXiv 1711.05101). fairseq_adam: epsilon is added to the
/// uncorrected root of the second moment, and p -= lr wd p comes first.
struct Optimizer {
  OptimizerName name = OptimizerName::AdamW;
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weightDecay = 0.01;
  double momentum = 0.0;
};

enum class ScheduleName { Constant, Fixed, InverseSqrt, PolynomialDecay, Cosine, WarmupStableDecay };

/// How the rate falls in the last phase of warm-up, stable, decay.
enum class DecayShape { Linear, Cosine, OneMinusSqrt };

struct Schedule {
  ScheduleName name = ScheduleName::Constant;
  int64_t warmupUpdates = 0;
  int64_t totalUpdates = 0;
  double power = 1.0;
  double endLr = 0.0;
  int64_t decayUpdates = 0; ///< of wsd: the last updates before totalUpdates
  DecayShape decay = DecayShape::Linear;
};

enum class ComputeType { F32, BF16, F16 };

struct Precision {
  ComputeType compute = ComputeType::F32;
  /// bf16 reductions of gradients rather than float32 ones.
  bool reduceBf16 = false;
};

/// Which float initializers are trained. Patterns are shell globs; `train` wins over `freeze`, both over `default`.
struct ParameterPolicy {
  /// File: what the model file says (design §6).
  enum class Standard { File, Train, Freeze };
  Standard standard = Standard::File;
  std::vector<std::string> train, freeze;
};

/// `target` is `source`, or its transpose.
struct Tie {
  std::string source, target;
  bool transposed = false;
};

struct Recipe {
  Loss loss;
  Optimizer optimizer;
  double clipNorm = 0.0;
  Schedule schedule;
  Precision precision;
  int64_t accumulate = 1;
  ParameterPolicy parameters;
  std::vector<Tie> tie;
  int64_t routingGroups = 0; ///< 0: what the model file says
  int64_t seed = 1;
};

/// Reads YAML `text`; `name` names it in messages ("recipe.yaml"). `overrides` are `key.path=value` with a YAML value
/// and win over the text. On failure `diagnostics` says everything that is wrong, with line and column, and the result
/// is empty.
std::optional<Recipe> parseRecipe(const std::string &text, const std::string &name,
                                  const std::vector<std::string> &overrides, std::vector<Diagnostic> &diagnostics);

/// Reads the file at `path`; an empty path is an empty recipe.
std::optional<Recipe> readRecipe(const std::string &path, const std::vector<std::string> &overrides,
                                 std::vector<Diagnostic> &diagnostics);

/// Canonical YAML: every key in a fixed order; equal recipes give equal text, and parsing it gives the recipe back.
std::string print(const Recipe &recipe);

/// The value of the key `tie`, on one line: `[["a", "b^T"]]`.
std::string print(llvm::ArrayRef<Tie> ties);

/// If the recipe asks for `cross_entropy`, computes it in every program from the results named `logits` and `labels`
/// (or arguments), and returns it as the first result `loss` together with `loss_weight` (the number of counted
/// labels), instead of results of these names that were there.
Status applyLoss(mlir::ModuleOp module, const Recipe &recipe);

/// Writes what the passes read of a recipe into the module attribute `moe.training` (ir/README.md).
void setTraining(mlir::ModuleOp module, const Recipe &recipe);

/// Names for messages and plans: "adamw", "inverse_sqrt", "bf16".
const char *name(OptimizerName optimizer);
const char *name(ScheduleName schedule);
const char *name(DecayShape shape);
const char *name(ComputeType type);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_RECIPE_RECIPE_H
