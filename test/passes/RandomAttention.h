//===- RandomAttention.h - Attention as exports write it, in ever other ways --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_PASSES_RANDOMATTENTION_H
#define MOEC_TEST_PASSES_RANDOMATTENTION_H

#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <random>
#include <string>

namespace moe::test {

/// How one attention is written in fine operations.
struct AttentionStyle {
  enum Layout { Transposed, Merged, Direct, Grouped };
  enum Scaling { OnQuery, OnKey, OnBoth, MultipliesScores, DividesScores };
  enum Softmax { Coarse, Fine, WithoutMaximum, Guarded };
  enum Mask {
    None,
    CausalAdded,      ///< a constant of 0 and the lowest number is added
    CausalSelected,   ///< -inf is put where a comparison of iotas says so
    CausalLow,        ///< -1e9 likewise
    PaddingSelected,  ///< -inf where an input [batch, keys] says so
    CausalAndPadding, ///< both in one condition, added as -inf
    PaddingAdded,     ///< (1 - input) * lowest is added
    Bias,             ///< an input [heads, queries, keys] is added
    Distances,        ///< ALiBi: a constant per head and distance, and a causal mask
    kMasks
  };
  int64_t batch, queries, keys, keyHeads, group, width, valueWidth;
  Layout layout;
  Scaling scaling;
  Softmax softmax;
  Mask mask;
  bool capped;
  bool sink;    ///< one more score for each head, whose weight is cut off
  bool shifted; ///< scores lose their maximum before the softmax

  static AttentionStyle random(std::mt19937 &engine);
  std::string name() const;
  /// Whether the coarse operation is causal.
  bool isCausal() const {
    return (mask >= CausalAdded && mask <= CausalLow) || mask == CausalAndPadding || mask == Distances;
  }
};

/// A module with @f(query [B,T,H D], key [B,S,Hkv D], value [B,S,Hkv V], padding [B,S] of ones and zeros, bias [H,T,S],
/// sink [H]) in float64, which returns [B,T,H V].
mlir::OwningOpRef<mlir::ModuleOp> attentionModule(mlir::MLIRContext &context, const AttentionStyle &style);

} // namespace moe::test

#endif // MOEC_TEST_PASSES_RANDOMATTENTION_H
