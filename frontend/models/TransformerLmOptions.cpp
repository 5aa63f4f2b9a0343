//===- TransformerLmOptions.cpp - What a transformer_lm_gpt may look like -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/TransformerLm.h"
#include <algorithm>
#include <cmath>

namespace moe::models {
namespace {

/// The opsets that have every operation used (Gelu came with 20) and that ONNX Runtime executes.
constexpr int64_t kFirstOpset = 20, kLastOpset = 23;

/// Beyond this many weights no file system holds the file, and 64-bit byte offsets come near their end.
constexpr double kMaxWeights = 1e15;

class Checker {
public:
  explicit Checker(std::vector<Diagnostic> &found) : found(found) {}

  void require(bool condition, std::string what, std::string why = {}, std::string remedy = {}) {
    if (!condition)
      found.push_back({std::move(what), {}, std::move(why), std::move(remedy), ExitCode::User});
  }

  void atLeast(const char *flag, int64_t value, int64_t least) {
    require(value >= least,
            std::string(flag) + " is " + std::to_string(value) + ", the least is " + std::to_string(least));
  }

  void probability(const char *flag, double value) {
    require(value >= 0.0 && value < 1.0, std::string(flag) + " must lie in [0, 1)");
  }

  void oneOf(const char *flag, const std::string &value, const std::vector<std::string> &choices) {
    std::string list;
    for (const std::string &choice : choices)
      list += (list.empty() ? "" : ", ") + choice;
    require(std::find(choices.begin(), choices.end(), value) != choices.end(),
            std::string(flag) + " '" + value + "' is unknown", {}, "choose one of " + list);
  }

private:
  std::vector<Diagnostic> &found;
};

std::vector<std::string> activationFlags() {
  std::vector<std::string> names;
  for (const ActivationFunction &function : activationFunctions())
    names.emplace_back(function.flag);
  return names;
}

double countWeights(const TransformerLmOptions &o) {
  const double d = static_cast<double>(o.decoderEmbedDim);
  const double ffn = d * static_cast<double>(std::max(o.decoderFfnEmbedDim, o.alternateDecoderFfnEmbedDim)) * 2;
  const double experts = static_cast<double>(std::max<int64_t>(o.moeExpertCount, 1));
  const double tables = d * (static_cast<double>(o.vocabSize) * 2 + static_cast<double>(o.positions()));
  return tables + static_cast<double>(o.decoderLayers) * (4 * d * d + ffn * experts);
}

} // namespace

const std::vector<ActivationFunction> &activationFunctions() {
  static const std::vector<ActivationFunction> table = {
      {"gelu", "gelu"}, {"gelu_fast", "gelu_tanh"}, {"gelu_accurate", "gelu_tanh"},
      {"relu", "relu"}, {"tanh", "tanh"},           {"linear", "linear"},
  };
  return table;
}

int64_t TransformerLmOptions::numMoeLayers() const {
  int64_t count = 0;
  for (int64_t i = 0; i < decoderLayers; ++i)
    count += isMoeLayer(i);
  return count;
}

std::vector<Diagnostic> verify(const TransformerLmOptions &o) {
  std::vector<Diagnostic> found;
  Checker check(found);
  check.atLeast("--decoder-layers", o.decoderLayers, 1);
  check.atLeast("--decoder-embed-dim", o.decoderEmbedDim, 1);
  check.atLeast("--decoder-ffn-embed-dim", o.decoderFfnEmbedDim, 1);
  check.atLeast("--decoder-attention-heads", o.decoderAttentionHeads, 1);
  check.atLeast("--tokens-per-sample", o.tokensPerSample, 1);
  check.atLeast("--max-target-positions", o.maxTargetPositions, 0);
  check.atLeast("--alternate-decoder-ffn-embed-dim", o.alternateDecoderFfnEmbedDim, 0);
  check.atLeast("--vocab-size", o.vocabSize, 2);
  check.atLeast("--moe-freq", o.moeFreq, 0);
  check.atLeast("--moe-expert-count", o.moeExpertCount, 0);
  check.atLeast("--routing-groups", o.routingGroups, 1);
  check.probability("--dropout", o.dropout);
  check.probability("--attention-dropout", o.attentionDropout);
  check.probability("--activation-dropout", o.activationDropout);
  check.oneOf("--activation-fn", o.activationFn, activationFlags());
  check.oneOf("--moe-second-expert-policy", o.moeSecondExpertPolicy, {"sampling", "random", "all"});
  check.oneOf("--moe-normalize-expert-grad", o.moeNormalizeExpertGrad, {"world_size", "sqrt_world_size"});
  check.oneOf("--moe-gate-loss-combine-method", o.moeGateLossCombineMethod, {"average", "sum"});
  check.oneOf("--moe-gate-loss-transform", o.moeGateLossTransform, {"none", "neg_log"});

  const std::string dim = "--decoder-embed-dim " + std::to_string(o.decoderEmbedDim);
  if (o.decoderEmbedDim > 0 && o.decoderAttentionHeads > 0)
    check.require(o.decoderEmbedDim % o.decoderAttentionHeads == 0,
                  dim + " is not divisible by --decoder-attention-heads " + std::to_string(o.decoderAttentionHeads),
                  "every head takes an equal share of the width");
  if (!o.decoderLearnedPos && o.decoderEmbedDim > 0)
    check.require(o.decoderEmbedDim % 2 == 0 && o.decoderEmbedDim >= 4, dim + " has no sinusoidal positions",
                  "the table needs an even width of at least 4", "change the width or add --decoder-learned-pos");
  if (o.maxTargetPositions > 0)
    check.require(o.maxTargetPositions >= o.tokensPerSample,
                  "--max-target-positions " + std::to_string(o.maxTargetPositions) + " is below --tokens-per-sample " +
                      std::to_string(o.tokensPerSample),
                  "a sample would have tokens without a position");
  check.require(o.padId >= 0 && o.padId < o.vocabSize, "--pad-id " + std::to_string(o.padId) +
                                                           " is no token of a vocabulary of " +
                                                           std::to_string(o.vocabSize));
  if (o.moeFreq > 0 && o.alternateDecoderFfnEmbedDim <= 0)
    check.require(o.moeExpertCount > 0, "--moe-freq " + std::to_string(o.moeFreq) + " makes layers without experts", {},
                  "add --moe-expert-count N");
  check.require(o.opset >= kFirstOpset && o.opset <= kLastOpset,
                "--opset " + std::to_string(o.opset) + " is not supported", {},
                "choose " + std::to_string(kFirstOpset) + " to " + std::to_string(kLastOpset));
  check.require(countWeights(o) < kMaxWeights, "the model has more than 1e15 weights", "no file can hold them");
  return found;
}

std::vector<Diagnostic> warnings(const TransformerLmOptions &o) {
  std::vector<Diagnostic> found;
  Checker check(found);
  if (o.moeExpertCount > 0 && o.alternateDecoderFfnEmbedDim <= 0)
    check.require(o.numMoeLayers() > 0, "no layer has experts, --moe-expert-count is without effect",
                  "layer i (from 1) has experts if --moe-freq divides i; it is " + std::to_string(o.moeFreq) +
                      " and there are " + std::to_string(o.decoderLayers) + " layers");
  return found;
}

} // namespace moe::models
