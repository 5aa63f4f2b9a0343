//===- ModelCommand.cpp -------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/ModelCommand.h"
#include "frontend/models/Flags.h"
#include "frontend/models/TransformerLm.h"
#include <algorithm>
#include <functional>
#include <numeric>
#include <ostream>
#include <set>

namespace moe::models {
namespace {

int report(const std::vector<Diagnostic> &found, std::ostream &err) {
  int code = 0;
  for (const Diagnostic &diagnostic : found) {
    err << diagnostic.str() << '\n';
    code = std::max(code, static_cast<int>(diagnostic.code));
  }
  return code;
}

/// One line: where the model went and how large it is.
void summarize(const onnx::ModelProto &model, const std::string &path, std::ostream &out) {
  std::set<std::string> trained;
  for (const onnx::StringStringEntryProto &binding : model.training_info(0).initialization_binding())
    trained.insert(binding.key());
  int64_t total = 0, inExperts = 0;
  for (const onnx::TensorProto &tensor : model.graph().initializer()) {
    if (!trained.count(tensor.name()))
      continue;
    const int64_t size = std::accumulate(tensor.dims().begin(), tensor.dims().end(), int64_t(1), std::multiplies<>());
    total += size;
    if (tensor.name().find(".experts.") != std::string::npos)
      inExperts += size;
  }
  out << path << ": " << total << " parameters, " << inExperts << " of them in experts\n";
}

/// fairseq's names where fairseq has the flag; the last block is ours.
std::vector<Flag> transformerLmFlags(TransformerLmOptions &o) {
  return {
      {"--decoder-layers", &o.decoderLayers, "number of layers"},
      {"--decoder-embed-dim", &o.decoderEmbedDim, "width of the residual stream"},
      {"--decoder-ffn-embed-dim", &o.decoderFfnEmbedDim, "width of feed-forward layers and of each expert"},
      {"--decoder-attention-heads", &o.decoderAttentionHeads, "attention heads, a divisor of the width"},
      {"--share-decoder-input-output-embed", &o.shareDecoderInputOutputEmbed, "tie the output projection"},
      {"--no-decoder-final-norm", &o.noDecoderFinalNorm, "no layer norm behind the last layer"},
      {"--dropout", &o.dropout, "probability of dropping residual branches"},
      {"--attention-dropout", &o.attentionDropout, "probability of dropping attention probabilities"},
      {"--activation-dropout", &o.activationDropout, "probability of dropping feed-forward activations"},
      {"--activation-fn", &o.activationFn, "gelu, gelu_fast (tanh), gelu_accurate (tanh), relu, tanh, linear"},
      {"--tokens-per-sample", &o.tokensPerSample, "tokens of a training sample"},
      {"--max-target-positions", &o.maxTargetPositions, "rows of the position table; 0: tokens per sample"},
      {"--decoder-learned-pos", &o.decoderLearnedPos, "train the positions instead of using sines"},
      {"--moe-freq", &o.moeFreq, "every N-th layer has experts; 0: none"},
      {"--moe-expert-count", &o.moeExpertCount, "experts of a MoE layer"},
      {"--moe-gating-use-fp32", &o.moeGatingUseFp32, "gate in float32 under mixed precision"},
      {"--moe-top1-expert", &o.moeTop1Expert, "one expert per token instead of two"},
      {"--moe-second-expert-policy", &o.moeSecondExpertPolicy, "sampling, random or all"},
      {"--moe-normalize-gate-prob-before-dropping", &o.moeNormalizeGateProbBeforeDropping,
       "normalise the two weights before tokens are dropped"},
      {"--moe-batch-prioritized-routing", &o.moeBatchPrioritizedRouting, "confident tokens take slots first"},
      {"--moe-eval-capacity-token-fraction", &o.moeEvalCapacityTokenFraction,
       "expert capacity in evaluation as a fraction of the tokens; <= 0: as in training"},
      {"--moe-normalize-expert-grad", &o.moeNormalizeExpertGrad, "world_size or sqrt_world_size"},
      {"--moe-gate-loss-wt", &o.moeGateLossWt, "weight of the gate loss"},
      {"--moe-gate-loss-combine-method", &o.moeGateLossCombineMethod, "over layers: average or sum"},
      {"--moe-gate-loss-transform", &o.moeGateLossTransform, "none or neg_log"},
      {"--use-moe-pad-mask", &o.useMoePadMask, "do not route padding tokens"},
      {"--alternate-decoder-ffn-embed-dim", &o.alternateDecoderFfnEmbedDim,
       "dense layers of this width in place of MoE layers; 0: off"},
      {"--vocab-size", &o.vocabSize, "tokens, the four special ones included; 260: bytes"},
      {"--pad-id", &o.padId, "padding token; such labels are not counted"},
      {"--routing-groups", &o.routingGroups, "capacity and gate loss hold per group of batch rows"},
      {"--opset", &o.opset, "version of the ONNX operations"},
  };
}

int writeTransformerLm(const std::vector<std::string> &words, std::ostream &out, std::ostream &err) {
  TransformerLmOptions options;
  std::string path;
  bool help = false;
  const std::vector<Flag> architecture = transformerLmFlags(options);
  std::vector<Flag> flags = architecture;
  flags.push_back({"-o", &path, "the file to write; its weights go to FILE.data"});
  flags.push_back({"--help", &help, "show this"});
  const std::string description = describeFlags(flags);

  std::vector<Diagnostic> found = parseFlags(flags, words);
  if (help) {
    out << "usage: moec model transformer_lm_gpt [FLAGS] -o FILE\n\n"
        << "fairseq's decoder-only language model, with experts if --moe-freq says so.\n\n"
        << description;
    return 0;
  }
  if (path.empty())
    found.push_back({"no output file", {}, {}, "add -o model.onnx", ExitCode::Usage});
  if (int code = report(found, err))
    return code;
  if (int code = report(verify(options), err))
    return code;
  for (const Diagnostic &warning : warnings(options))
    err << "warning: " << warning.what << (warning.why.empty() ? "" : ": ") << warning.why << '\n';

  ModelFile file = buildTransformerLm(options);
  onnx::StringStringEntryProto &entry = *file.proto.add_metadata_props();
  entry.set_key("ai.moec.flags");
  entry.set_value(renderFlags(architecture));
  if (Status status = writeModel(file, path); !status)
    return report({status.error()}, err);
  summarize(file.proto, path, out);
  return 0;
}

struct Preset {
  const char *name, *help;
  int (*run)(const std::vector<std::string> &words, std::ostream &out, std::ostream &err);
};

constexpr Preset kPresets[] = {
    {"transformer_lm_gpt", "decoder-only language model, dense or with experts (fairseq)", writeTransformerLm},
};

} // namespace

int runModelCommand(const std::vector<std::string> &args, std::ostream &out, std::ostream &err) {
  std::string list;
  std::vector<std::string> names;
  for (const Preset &preset : kPresets) {
    names.emplace_back(preset.name);
    list += std::string("  ") + preset.name + "  " + preset.help + "\n";
  }
  const std::string usage =
      "usage: moec model PRESET [FLAGS] -o FILE\n\npresets (moec model PRESET --help lists the flags):\n" + list;
  if (args.empty()) {
    err << usage;
    return static_cast<int>(ExitCode::Usage);
  }
  if (args[0] == "--help") {
    out << usage;
    return 0;
  }
  for (const Preset &preset : kPresets)
    if (args[0] == preset.name)
      return preset.run({args.begin() + 1, args.end()}, out, err);
  return report(
      {{"unknown preset '" + args[0] + "'", {}, {}, "did you mean " + nearest(args[0], names) + "?", ExitCode::Usage}},
      err);
}

} // namespace moe::models
