//===- TransformerLm.h - The preset transformer_lm_gpt ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// fairseq's decoder-only language model with Mixture-of-Experts layers (branch `moe`), written as a standard ONNX file.
// frontend/models/README.md lists every node pattern that occurs in it.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_TRANSFORMERLM_H
#define MOEC_FRONTEND_MODELS_TRANSFORMERLM_H

#include "frontend/models/ModelFile.h"
#include "runtime/core/Diagnostic.h"
#include <cstdint>
#include <string>
#include <vector>

namespace moe::models {

/// The architecture; names and defaults are fairseq's where fairseq has the option.
struct TransformerLmOptions {
  int64_t decoderLayers = 12;
  int64_t decoderEmbedDim = 768;     ///< M
  int64_t decoderFfnEmbedDim = 3072; ///< F, of dense layers and of each expert
  int64_t decoderAttentionHeads = 12;
  bool shareDecoderInputOutputEmbed = false;
  bool noDecoderFinalNorm = false;
  double dropout = 0.1;
  double attentionDropout = 0.1;
  double activationDropout = 0.0;
  std::string activationFn = "gelu"; ///< a key of `activationFunctions()`
  int64_t tokensPerSample = 1024;
  int64_t maxTargetPositions = 0; ///< 0: tokensPerSample
  bool decoderLearnedPos = false; ///< trained positions instead of the sinusoidal table

  int64_t moeFreq = 0; ///< layer i (from 0) is MoE iff (i + 1) % moeFreq == 0; 0: none
  int64_t moeExpertCount = 0;
  bool moeGatingUseFp32 = false;
  bool moeTop1Expert = false;
  std::string moeSecondExpertPolicy = "sampling"; ///< sampling, random or all
  bool moeNormalizeGateProbBeforeDropping = false;
  bool moeBatchPrioritizedRouting = false;
  double moeEvalCapacityTokenFraction = 0.25;        ///< <= 0: the capacity of training
  std::string moeNormalizeExpertGrad = "world_size"; ///< or sqrt_world_size
  double moeGateLossWt = 1.0;                        ///< factor of the gate loss in `loss`
  std::string moeGateLossCombineMethod = "average";  ///< over MoE layers; or sum
  std::string moeGateLossTransform = "none";         ///< or neg_log
  bool useMoePadMask = false;                        ///< padding tokens are not routed
  int64_t alternateDecoderFfnEmbedDim = 0;           ///< > 0: MoE layers become dense layers of this width

  int64_t vocabSize = 260; ///< the 256 bytes and fairseq's four special tokens
  int64_t padId = 1;       ///< such labels are not counted, such inputs are masked
  int64_t routingGroups = 1;
  int64_t opset = 20;

  /// True iff layer `index` (from 0) routes to experts.
  bool isMoeLayer(int64_t index) const {
    return moeFreq > 0 && (index + 1) % moeFreq == 0 && alternateDecoderFfnEmbedDim <= 0;
  }
  int64_t numMoeLayers() const;
  int64_t positions() const { return maxTargetPositions > 0 ? maxTargetPositions : tokensPerSample; }
};

/// fairseq's names of activation functions and what the MoE function's attribute `activation` calls them
/// (relu, gelu, gelu_tanh, tanh, linear).
struct ActivationFunction {
  const char *flag;
  const char *name;
};
const std::vector<ActivationFunction> &activationFunctions();

/// Every reason why no model can be built from `options`; empty if there is none.
std::vector<Diagnostic> verify(const TransformerLmOptions &options);

/// Combinations that build a model which is probably not the intended one.
std::vector<Diagnostic> warnings(const TransformerLmOptions &options);

/// Builds the model; `verify(options)` must be empty.
///
/// Inputs `input_ids`, `labels`: int64 [batch, seq]. Outputs: `loss` float [], the mean over the counted labels of
/// cross entropy in nats plus moeGateLossWt times `aux_loss`; `logits` float [batch, seq, vocabSize]; `aux_loss` float
/// [], the combined and transformed gate loss, averaged over routing groups with the groups' counted labels as weights
/// (fairseq's criterion `moe_cross_entropy` with its data-parallel reduction).
ModelFile buildTransformerLm(const TransformerLmOptions &options);

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_TRANSFORMERLM_H
