//===- Survey.h - What a model consists of, for people ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_SURVEY_H
#define MOEC_PASSES_RECOMPOSE_SURVEY_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>
#include <variant>
#include <vector>

namespace moe::ir::recompose {

/// One building block of a model.
struct Block {
  enum class Kind { Attention, Norm, Rotary, FeedForward, Experts };
  Kind kind;
  /// Layer by order: a layer ends with its feed-forward network or experts.
  int layer = 0;
  std::string where; ///< name of the operation in the file
  /// What it is in words: "causal, grouped-query"; "rms"; "gated silu".
  std::string form;
  /// Sizes and switches by name, as "heads", "head_dim".
  std::vector<std::pair<std::string, std::variant<bool, int64_t, double>>> facts;
  /// Not empty: it stays in fine operations, and why.
  std::string why;
};

llvm::StringRef kindName(Block::Kind kind);

/// The building blocks of the function `name` of an imported module, in order, found as the phase `recompose` finds
/// them. The module stays as it is. Empty if there is no such function.
std::vector<Block> survey(mlir::ModuleOp module, llvm::StringRef name);

} // namespace moe::ir::recompose

#endif // MOEC_PASSES_RECOMPOSE_SURVEY_H
