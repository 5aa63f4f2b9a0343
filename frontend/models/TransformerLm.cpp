//===- TransformerLm.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/TransformerLm.h"
#include "frontend/models/Functions.h"
#include "frontend/models/Initialization.h"
#include <cmath>

namespace moe::models {
namespace {

/// metadata_props of values, nodes and functions came with this version.
constexpr int64_t kIrVersion = 10;
/// The 256 bytes behind `<s>`, `<pad>`, `</s>`, `<unk>`.
constexpr int64_t kByteVocabulary = 260;
constexpr double kLayerNormEpsilon = 1e-5;

using Shape = std::vector<int64_t>;

void setMetadata(onnx::ModelProto &model, const std::string &key, const std::string &value) {
  onnx::StringStringEntryProto &entry = *model.add_metadata_props();
  entry.set_key(key);
  entry.set_value(value);
}

/// Dimensions are symbols or numbers.
void describe(onnx::ValueInfoProto &value, const std::string &name, onnx::TensorProto::DataType type,
              const std::vector<std::variant<const char *, int64_t>> &dims) {
  value.set_name(name);
  onnx::TypeProto::Tensor &tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  onnx::TensorShapeProto &shape = *tensor.mutable_shape();
  for (const auto &dim : dims) {
    if (std::holds_alternative<int64_t>(dim))
      shape.add_dim()->set_dim_value(std::get<int64_t>(dim));
    else
      shape.add_dim()->set_dim_param(std::get<const char *>(dim));
  }
}

/// Row n = [sin(n f_0), sin(n f_1), .. | cos(n f_0), ..], f_i = 10000^(-i / (dim/2 - 1)); the row of `pad` is zero.
std::vector<float> sinusoidalTable(int64_t rows, int64_t dim, int64_t pad) {
  const int64_t half = dim / 2;
  std::vector<float> table(static_cast<size_t>(rows * dim), 0.0f);
  // fairseq computes the table in float32, angles included: a table from doubles would differ by 1e-5 at high
  // positions.
  const auto slope = static_cast<float>(-(std::log(10000.0) / static_cast<double>(half - 1)));
  for (int64_t i = 0; i < half; ++i) {
    const auto frequency = static_cast<float>(std::exp(static_cast<double>(static_cast<float>(i) * slope)));
    for (int64_t n = 0; n < rows; ++n) {
      if (n == pad)
        continue;
      const double angle = static_cast<float>(n) * frequency;
      table[static_cast<size_t>(n * dim + i)] = static_cast<float>(std::sin(angle));
      table[static_cast<size_t>(n * dim + half + i)] = static_cast<float>(std::cos(angle));
    }
  }
  return table;
}

class Writer {
public:
  explicit Writer(const TransformerLmOptions &options)
      : o(options), d(options.decoderEmbedDim), graph(*file.proto.mutable_graph()), b(*graph.mutable_node()),
        init(*file.proto.add_training_info()) {}

  ModelFile write() {
    header();
    std::string x = embedding();
    for (int64_t i = 0; i < o.decoderLayers; ++i)
      x = layer("decoder.layers." + std::to_string(i), x, o.isMoeLayer(i));
    if (!o.noDecoderFinalNorm)
      x = layerNorm("decoder.layer_norm", x);
    outputProjection(x);
    criterion();
    return std::move(file);
  }

private:
  void header() {
    onnx::ModelProto &model = file.proto;
    model.set_ir_version(kIrVersion);
    model.set_producer_name("moec");
    model.add_opset_import()->set_version(o.opset);
    onnx::OperatorSetIdProto &ours = *model.add_opset_import();
    ours.set_domain(kDomain);
    ours.set_version(1);
    *model.add_functions() = attentionFunction(o.opset);
    const bool hasMoe = o.numMoeLayers() > 0;
    if (hasMoe)
      *model.add_functions() =
          moeFunction(o.opset, {.topK = o.moeTop1Expert ? 1 : 2,
                                .normalizeBeforeDropping = o.moeNormalizeGateProbBeforeDropping && !o.moeTop1Expert,
                                .batchPrioritized = o.moeBatchPrioritizedRouting,
                                .usePaddingMask = o.useMoePadMask,
                                .activation = activation()});

    setMetadata(model, "ai.moec.version", "1");
    setMetadata(model, "ai.moec.preset", "transformer_lm_gpt");
    setMetadata(model, "ai.moec.pad_id", std::to_string(o.padId));
    // The position table has no row for more.
    setMetadata(model, "ai.moec.max.seq", std::to_string(o.positions()));
    setMetadata(model, "ai.moec.tokenizer", o.vocabSize >= kByteVocabulary ? "bytes+4" : "none");
    setMetadata(model, "ai.moec.loss_weight", "loss_weight");
    setMetadata(model, "ai.moec.inner_loss_sum", "cross_entropy_sum");
    setMetadata(model, "ai.moec.loss_sum", "loss_sum");

    graph.set_name("transformer_lm_gpt");
    describe(*graph.add_input(), "input_ids", onnx::TensorProto::INT64, {"batch", "seq"});
    describe(*graph.add_input(), "labels", onnx::TensorProto::INT64, {"batch", "seq"});
    describe(*graph.add_output(), "loss", onnx::TensorProto::FLOAT, {});
    describe(*graph.add_output(), "logits", onnx::TensorProto::FLOAT, {"batch", "seq", o.vocabSize});
    describe(*graph.add_output(), "aux_loss", onnx::TensorProto::FLOAT, {});
    if (hasMoe) {
      onnx::TensorProto &groups = *graph.add_initializer();
      groups.set_name("routing_groups");
      groups.set_data_type(onnx::TensorProto::INT64);
      groups.add_dims(1);
      groups.add_int64_data(o.routingGroups);
    }
    b.scalar(o.padId, "pad_id");
  }

  std::string embedding() {
    const double deviation = 1.0 / std::sqrt(static_cast<double>(d));
    const Shape table = {o.vocabSize, d};
    file.addWeight("decoder.embed_tokens.weight", table);
    init.normalExceptRow("decoder.embed_tokens.weight", table, deviation, o.padId);
    b.embedding("decoder.embed_tokens.weight", "input_ids", "decoder.embed_tokens", o.padId);
    b.scalar(std::sqrt(static_cast<double>(d)), "decoder.embed_scale");
    b.add("Mul", {"decoder.embed_tokens", "decoder.embed_scale"}, "decoder.embed_tokens.scaled");

    // Real tokens are numbered from padId + 1; padding takes row padId, which is zero.
    b.add("Equal", {"input_ids", "pad_id"}, "is_padding");
    b.add("Not", {"is_padding"}, "is_real");
    b.add("Cast", {"is_real"}, "real", {{"to", int64_t(onnx::TensorProto::INT64)}});
    b.scalar(int64_t(1), "seq_axis");
    b.add("CumSum", {"real", "seq_axis"}, "real_count");
    b.add("Mul", {"real_count", "real"}, "position_offsets");
    b.add("Add", {"position_offsets", "pad_id"}, "positions");
    const Shape places = {o.positions() + o.padId + 1, d};
    std::string name = "decoder.embed_positions.weight";
    if (o.decoderLearnedPos) {
      file.addWeight(name, places);
      init.normalExceptRow(name, places, deviation, o.padId);
    } else {
      // fairseq's state dict has no such entry; the plural is its name for the sinusoidal buffer.
      name = "decoder.embed_positions.weights";
      file.addTable(name, places, sinusoidalTable(places[0], d, o.padId));
    }
    b.embedding(name, "positions", "decoder.embed_positions", o.padId);
    std::string x = b.add("Add", {"decoder.embed_tokens.scaled", "decoder.embed_positions"}, "decoder.embed");
    return dropout(x, o.dropout, "dropout_ratio");
  }

  std::string layer(const std::string &name, const std::string &input, bool isMoe) {
    std::string x = layerNorm(name + ".self_attn_layer_norm", input);
    x = dropout(attention(name + ".self_attn", x), o.dropout, "dropout_ratio");
    const std::string residual = b.add("Add", {input, x}, name + ".attention_residual");
    x = layerNorm(name + ".final_layer_norm", residual);
    if (isMoe) {
      x = moe(name + ".moe_layer", x);
    } else {
      const bool alternate = o.alternateDecoderFfnEmbedDim > 0 && o.moeFreq > 0;
      x = feedForward(name, x, alternate);
    }
    return b.add("Add", {residual, x}, name);
  }

  std::string attention(const std::string &name, const std::string &input) {
    const double xavier = std::sqrt(6.0 / static_cast<double>(2 * d)), bias = 1.0 / std::sqrt(static_cast<double>(d));
    Names operands;
    for (const char *part : {".q_proj", ".k_proj", ".v_proj"})
      operands.push_back(linear(name + part, input, d, d, xavier / std::sqrt(2.0), bias));
    operands.push_back("is_padding");
    const auto head = static_cast<double>(d / o.decoderAttentionHeads);
    b.addNode(kDomain, "Attention", operands, {name + ".context"},
              {{"num_heads", o.decoderAttentionHeads},
               {"scale", 1.0 / std::sqrt(head)},
               {"causal", int64_t(1)},
               {"dropout", o.attentionDropout}});
    describe(*graph.add_value_info(), name + ".context", onnx::TensorProto::FLOAT, {"batch", "seq", d});
    return linear(name + ".out_proj", name + ".context", d, d, xavier, 0.0);
  }

  std::string feedForward(const std::string &name, const std::string &input, bool alternate) {
    const int64_t width = alternate ? o.alternateDecoderFfnEmbedDim : o.decoderFfnEmbedDim;
    const double bound1 = 1.0 / std::sqrt(static_cast<double>(d)), bound2 = 1.0 / std::sqrt(static_cast<double>(width));
    std::string x = linear(name + ".fc1", input, d, width, bound1, bound1);
    x = addActivation(b, activation(), x, name + ".activation");
    x = dropout(x, o.activationDropout, "activation_dropout_ratio");
    x = linear(name + ".fc2", x, width, d, bound2, bound2);
    return dropout(x, o.dropout, "dropout_ratio");
  }

  std::string moe(const std::string &name, const std::string &input) {
    const int64_t e = o.moeExpertCount, f = o.decoderFfnEmbedDim;
    const double bound1 = 1.0 / std::sqrt(static_cast<double>(d)), bound2 = 1.0 / std::sqrt(static_cast<double>(f));
    Names operands = {input};
    auto parameter = [&](const std::string &part, const Shape &shape, double bound) {
      operands.push_back(name + part);
      file.addWeight(name + part, shape);
      init.uniform(name + part, shape, bound);
    };
    parameter(".gate.wg.weight", {e, d}, bound1);
    parameter(".experts.fc1.weight", {e, f, d}, bound1);
    parameter(".experts.fc1.bias", {e, f}, bound1);
    parameter(".experts.fc2.weight", {e, d, f}, bound2);
    parameter(".experts.fc2.bias", {e, d}, bound2);
    operands.push_back("routing_groups");
    operands.push_back(o.useMoePadMask ? "is_padding" : "");
    const std::string aux = name + ".l_aux";
    b.addNode(kDomain, "MoE", operands, {name, aux},
              {{"num_experts", e},
               {"top_k", int64_t(o.moeTop1Expert ? 1 : 2)},
               {"capacity_factor", o.moeTop1Expert ? 1.0 : 2.0},
               {"eval_capacity_token_fraction", o.moeEvalCapacityTokenFraction},
               {"second_expert_policy", o.moeSecondExpertPolicy},
               {"normalize_gate_prob_before_dropping", int64_t(o.moeNormalizeGateProbBeforeDropping)},
               {"batch_prioritized_routing", int64_t(o.moeBatchPrioritizedRouting)},
               {"gating_use_fp32", int64_t(o.moeGatingUseFp32)},
               {"normalize_expert_grad", o.moeNormalizeExpertGrad},
               {"activation", activation()},
               {"dropout", o.dropout},
               {"activation_dropout", o.activationDropout}});
    describe(*graph.add_value_info(), name, onnx::TensorProto::FLOAT, {"batch", "seq", d});
    describe(*graph.add_value_info(), aux, onnx::TensorProto::FLOAT, {"groups"});
    auxiliary.push_back(aux);
    return name;
  }

  void outputProjection(const std::string &x) {
    std::string weight = "decoder.embed_tokens.weight";
    if (!o.shareDecoderInputOutputEmbed) {
      weight = "decoder.output_projection.weight";
      file.addWeight(weight, {o.vocabSize, d});
      init.normal(weight, {o.vocabSize, d}, 1.0 / std::sqrt(static_cast<double>(d)));
    }
    b.add("Transpose", {weight}, "decoder.output_projection.weight_t", {{"perm", Shape{1, 0}}});
    b.add("MatMul", {x, "decoder.output_projection.weight_t"}, "logits");
  }

  /// fairseq's moe_cross_entropy over all groups: sums first, one division by the number of counted labels at the end.
  void criterion() {
    b.list({-1}, "all_rows");
    b.list({-1, o.vocabSize}, "logit_rows_shape");
    b.add("Reshape", {"logits", "logit_rows_shape"}, "logit_rows");
    b.add("Reshape", {"labels", "all_rows"}, "label_rows");
    std::string sum = b.add("SoftmaxCrossEntropyLoss", {"logit_rows", "label_rows"}, "cross_entropy_sum",
                            {{"reduction", std::string("sum")}, {"ignore_index", o.padId}});
    b.add("Equal", {"labels", "pad_id"}, "is_ignored");
    b.add("Not", {"is_ignored"}, "is_counted");
    b.add("Cast", {"is_counted"}, "counted", {{"to", int64_t(onnx::TensorProto::FLOAT)}});
    b.add("ReduceSum", {"counted"}, "loss_weight", {{"keepdims", int64_t(0)}});
    // A batch without any counted label has loss 0, not 0/0.
    b.scalar(1.0, "one");
    b.add("Max", {"loss_weight", "one"}, "loss_divisor");
    if (auxiliary.empty()) {
      b.scalar(0.0, "aux_loss");
      b.add("Identity", {sum}, "loss_sum");
    } else {
      b.scalar(o.moeGateLossWt, "moe_gate_loss_wt");
      b.add("Mul", {gateLossSum(), "moe_gate_loss_wt"}, "moe_gate_loss_weighted");
      b.add("Add", {sum, "moe_gate_loss_weighted"}, "loss_sum");
      b.add("Div", {"moe_gate_loss_sum", "loss_divisor"}, "aux_loss");
    }
    b.add("Div", {"loss_sum", "loss_divisor"}, "loss");
  }

  /// Sum over routing groups of the combined, transformed auxiliary loss times the group's counted labels.
  std::string gateLossSum() {
    std::string gate = b.add("Sum", auxiliary, "moe_gate_loss_by_group_sum");
    if (o.moeGateLossCombineMethod == "average") {
      b.scalar(static_cast<double>(auxiliary.size()), "moe_layers");
      gate = b.add("Div", {gate, "moe_layers"}, "moe_gate_loss_by_group_average");
    }
    if (o.moeGateLossTransform == "neg_log") {
      b.add("Log", {gate}, "moe_gate_loss_by_group_log");
      gate = b.add("Neg", {"moe_gate_loss_by_group_log"}, "moe_gate_loss_by_group_neg_log");
    }
    b.add("Concat", {"routing_groups", "all_rows"}, "group_shape", {{"axis", int64_t(0)}});
    b.add("Reshape", {"counted", "group_shape"}, "counted_by_group");
    b.list({1}, "token_axis");
    b.add("ReduceSum", {"counted_by_group", "token_axis"}, "group_weight", {{"keepdims", int64_t(0)}});
    b.add("Mul", {gate, "group_weight"}, "moe_gate_loss_by_group");
    return b.add("ReduceSum", {"moe_gate_loss_by_group"}, "moe_gate_loss_sum", {{"keepdims", int64_t(0)}});
  }

  /// x W^T + b with W [out, in] drawn from U(+-weightBound) and b from U(+-biasBound), or zero for a bound of zero.
  std::string linear(const std::string &name, const std::string &x, int64_t in, int64_t out, double weightBound,
                     double biasBound) {
    file.addWeight(name + ".weight", {out, in});
    file.addWeight(name + ".bias", {out});
    init.uniform(name + ".weight", {out, in}, weightBound);
    if (biasBound > 0.0)
      init.uniform(name + ".bias", {out}, biasBound);
    else
      init.constant(name + ".bias", {out}, 0.0f);
    b.add("Transpose", {name + ".weight"}, name + ".weight_t", {{"perm", Shape{1, 0}}});
    b.add("MatMul", {x, name + ".weight_t"}, name + ".product");
    return b.add("Add", {name + ".product", name + ".bias"}, name);
  }

  std::string layerNorm(const std::string &name, const std::string &x) {
    file.addWeight(name + ".weight", {d});
    file.addWeight(name + ".bias", {d});
    init.constant(name + ".weight", {d}, 1.0f);
    init.constant(name + ".bias", {d}, 0.0f);
    return b.add("LayerNormalization", {x, name + ".weight", name + ".bias"}, name,
                 {{"axis", int64_t(-1)}, {"epsilon", kLayerNormEpsilon}});
  }

  /// No training_mode input: identity for other runtimes. `ratio` names the scalar that all uses share.
  std::string dropout(const std::string &x, double probability, const std::string &ratio) {
    if (probability <= 0.0)
      return x;
    bool &exists = ratio == "dropout_ratio" ? hasDropoutRatio : hasActivationDropoutRatio;
    if (!exists)
      b.scalar(probability, ratio);
    exists = true;
    return b.add("Dropout", {x, ratio}, x + ".dropout");
  }

  std::string activation() const {
    for (const ActivationFunction &function : activationFunctions())
      if (o.activationFn == function.flag)
        return function.name;
    return {};
  }

  const TransformerLmOptions &o;
  const int64_t d;
  ModelFile file;
  onnx::GraphProto &graph;
  NodeBuilder b;
  Initialization init;
  Names auxiliary; ///< l_aux [G] of every MoE layer
  bool hasDropoutRatio = false, hasActivationDropoutRatio = false;
};

} // namespace

ModelFile buildTransformerLm(const TransformerLmOptions &options) {
  return Writer(options).write();
}

} // namespace moe::models
