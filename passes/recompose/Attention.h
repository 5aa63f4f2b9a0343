//===- Attention.h - Attention in fine operations -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// The road from a product of softmax weights and values back to queries and keys, in three stages: what stands on it
// (AttentionScores.cpp), what its masks mean (AttentionMask.cpp), and the coarse operation (AttentionRewrite.cpp).
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_ATTENTION_H
#define MOEC_PASSES_RECOMPOSE_ATTENTION_H

#include "passes/recompose/Axes.h"
#include "passes/recompose/KnownValues.h"

#include <string>

namespace moe::ir::recompose {

/// From here on down a score hides its key: e^-10000 is zero in float32 and float64, and no model that learns has
/// scores that far apart.
inline constexpr double kHidden = -1e4;

/// A term that is added to the scores, times `factor`.
struct ScoreTerm {
  View view;
  double factor;
};

/// Scores are replaced by `value` (at most `kHidden`) where `condition`, a tensor of booleans, equals `when`.
struct HiddenKeys {
  View condition;
  bool when;
  double value;
};

/// softmax(softcap(scale query . key) + terms, keys hidden; sink) as it is found, axes shared by all views.
struct FoundScores {
  mlir::Operation *softmax = nullptr; ///< the operation that makes the weights
  View scores;                        ///< what the softmax is taken of; its last dimension are the keys
  View query, key;                    ///< operands of the product, without data movement and constant factors
  AxisList contracted;
  double scale = 1, softcap = 0; ///< softcap 0: none
  llvm::SmallVector<ScoreTerm> terms;
  llvm::SmallVector<HiddenKeys> hidden;
  std::optional<View> sink; ///< one more score for each query, to which no value belongs; its last dimension has none
  bool zeroRows = false;    ///< weights of a query that sees no key are zero, instead of 0/0
  bool floored = false;     ///< scores of -inf are raised to a finite number
  DropoutOp dropout;
};

/// What masks and terms of an attention come to.
struct FoundMask {
  bool causal = false;
  int64_t window = 0;                    ///< as in moe.attention
  llvm::SmallVector<HiddenKeys> padding; ///< conditions on batch and key
  llvm::SmallVector<ScoreTerm> bias;     ///< what remains
  llvm::SmallVector<HiddenKeys> hidden;  ///< likewise, of -inf
  /// Keys [queries, keys] that are hidden in no pattern of its own, or empty.
  std::vector<char> pattern;
};

/// Axes of the attention by their role; sizes of none are 1.
struct AttentionAxes {
  AxisList batch, keyHeads, group, queries, keys, width;
  AxisList heads() const {
    AxisList all = keyHeads;
    all.append(group.begin(), group.end());
    return all;
  }
};

/// Result of looking for something: found, or why not; an empty reason: nothing like it.
template <typename T> struct Finding {
  std::optional<T> found;
  std::string why;
  static Finding no(std::string reason = {}) { return {std::nullopt, std::move(reason)}; }
  static Finding yes(T value) { return {std::move(value), {}}; }
};

/// Follows `weights`, an operand of a product, to its softmax and further to queries and keys.
Finding<FoundScores> findScores(AxisTable &axes, KnownValues &values, View weights);

/// Takes masks and terms apart; fails where a query may see no key and the model gives it other weights than zero
/// that no bias can express.
Finding<FoundMask> findMask(AxisTable &axes, KnownValues &values, const FoundScores &scores,
                            const AttentionAxes &roles);

/// Where an attention was found, or something like one that stays fine.
struct AttentionReport {
  mlir::Operation *at; ///< the softmax before the rewrite, the coarse operation after it
  std::string why;     ///< empty: rewritten
};

/// Replaces the attentions of `function`; reports also those that stay.
void rewriteAttention(mlir::Operation *function, KnownValues &values, llvm::SmallVectorImpl<AttentionReport> &reports);

} // namespace moe::ir::recompose

#endif // MOEC_PASSES_RECOMPOSE_ATTENTION_H
