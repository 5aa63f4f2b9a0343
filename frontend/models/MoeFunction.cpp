//===- MoeFunction.cpp - The body of ai.moec.MoE ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Shapes in the comments: G routing groups of S tokens, E experts of capacity C, model width M, expert width F.
// Row (e * G + g) * C + slot of the dispatch buffer is a slot of expert e reserved for group g; one more row behind
// them swallows what is dropped.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/Functions.h"
#include <limits>

namespace moe::models {
namespace {

class MoeBody {
public:
  MoeBody(onnx::FunctionProto &function, const MoeStructure &structure)
      : b(*function.mutable_node()), structure(structure) {}

  void write() {
    constants();
    gate();
    slots();
    auxiliaryLoss();
    weights();
    dispatch();
    experts();
    combine();
  }

private:
  /// One entry per choice: "first", and for top-2 also "second".
  Names choices() const { return structure.topK == 1 ? Names{"first"} : Names{"first", "second"}; }

  void constants() {
    b.attribute("num_experts", onnx::AttributeProto::INT, "E");
    b.attribute("capacity_factor", onnx::AttributeProto::FLOAT, "capacity_factor");
    b.scalar(int64_t(0), "zero");
    b.scalar(int64_t(1), "one");
    b.scalar(0.0, "nothing");
    for (int64_t axis : {-1, 0, 1, 2})
      b.list({axis}, axis < 0 ? "axis_last" : "axis_" + std::to_string(axis));
    b.add("Unsqueeze", {"E", "axis_0"}, "E_1");
  }

  /// Tokens by group, gate probabilities, capacity, and the choices as indices [G,S] and one-hot int64 [G,S,E].
  void gate() {
    b.add("Shape", {"x"}, "x_shape");
    b.add("Shape", {"x"}, "M", {{"start", int64_t(2)}});
    b.add("Concat", {"routing_groups", "axis_last", "M"}, "grouped_shape", {{"axis", int64_t(0)}});
    b.add("Reshape", {"x", "grouped_shape"}, "tokens");
    b.add("Transpose", {"gate"}, "gate_t", {{"perm", std::vector<int64_t>{1, 0}}});
    b.add("MatMul", {"tokens", "gate_t"}, "logits");
    b.add("Softmax", {"logits"}, "p", {{"axis", int64_t(-1)}});

    b.add("Shape", {"tokens"}, "S", {{"start", int64_t(1)}, {"end", int64_t(2)}});
    b.add("Add", {"S", "E"}, "S_plus_E");
    b.add("Sub", {"S_plus_E", "one"}, "S_rounded_up");
    b.add("Div", {"S_rounded_up", "E"}, "tokens_per_expert");
    b.add("Cast", {"tokens_per_expert"}, "tokens_per_expert_f", {{"to", int64_t(onnx::TensorProto::FLOAT)}});
    b.add("Mul", {"tokens_per_expert_f", "capacity_factor"}, "capacity_f");
    b.add("Cast", {"capacity_f"}, "C", {{"to", int64_t(onnx::TensorProto::INT64)}});

    if (structure.usePaddingMask) {
      b.add("Concat", {"routing_groups", "axis_last"}, "group_shape", {{"axis", int64_t(0)}});
      b.add("Not", {"padding_mask"}, "not_padding");
      b.add("Reshape", {"not_padding", "group_shape"}, "routed");
      b.add("Cast", {"routed"}, "routed_i", {{"to", int64_t(onnx::TensorProto::INT64)}});
      b.add("Unsqueeze", {"routed_i", "axis_last"}, "routed_column");
    }
    b.list({0, 1}, "off_on");
    choose("first", "p");
    if (structure.topK == 2) {
      b.scalar(-std::numeric_limits<double>::infinity(), "minus_infinity");
      b.add("Cast", {"first_onehot"}, "first_taken", {{"to", int64_t(onnx::TensorProto::BOOL)}});
      b.add("Where", {"first_taken", "minus_infinity", "logits"}, "other_logits");
      choose("second", "other_logits");
    }
  }

  /// The lowest index of the maximum, its one-hot row (zero for padding), and its gate probability.
  void choose(const std::string &choice, const std::string &score) {
    b.add("ArgMax", {score}, choice, {{"axis", int64_t(-1)}, {"keepdims", int64_t(0)}});
    std::string onehot = choice + "_onehot";
    b.add("OneHot", {choice, "E", "off_on"}, onehot, {{"axis", int64_t(-1)}});
    b.add("Unsqueeze", {choice, "axis_last"}, choice + "_column");
    b.add("GatherElements", {"p", choice + "_column"}, choice + "_p_column", {{"axis", int64_t(-1)}});
    b.add("Squeeze", {choice + "_p_column", "axis_last"}, choice + "_p");
    mask(choice) = onehot;
    if (structure.usePaddingMask)
      mask(choice) = b.add("Mul", {onehot, "routed_column"}, choice + "_mask");
  }

  /// Slot of every choice within its expert [G,S]: earlier tokens with the same choice, second choices after all first
  /// ones, dropped ones included.
  void slots() {
    if (structure.batchPrioritized) {
      // Order by descending probability; TopK keeps equal values in index order. Sorting the permutation inverts it.
      b.add("ReduceMax", {"p", "axis_last"}, "confidence", {{"keepdims", int64_t(0)}});
      b.addNode("", "TopK", {"confidence", "S"}, {"sorted_confidence", "order"}, {{"axis", int64_t(1)}});
      b.addNode("", "TopK", {"order", "S"}, {"sorted_order", "rank"}, {{"axis", int64_t(1)}, {"largest", int64_t(0)}});
      b.add("Shape", {"p"}, "p_shape");
      for (const char *index : {"order", "rank"}) {
        b.add("Unsqueeze", {index, "axis_last"}, std::string(index) + "_column");
        b.add("Expand", {std::string(index) + "_column", "p_shape"}, std::string(index) + "_rows");
      }
    }
    for (const std::string &choice : choices()) {
      std::string earlier = countEarlier(choice);
      if (choice == "second") {
        b.add("ReduceSum", {mask("first"), "axis_1"}, "first_total", {{"keepdims", int64_t(1)}});
        earlier = b.add("Add", {earlier, "first_total"}, "second_position");
      }
      b.add("Mul", {earlier, mask(choice)}, choice + "_own_position");
      b.add("ReduceSum", {choice + "_own_position", "axis_2"}, choice + "_slot", {{"keepdims", int64_t(0)}});
      std::string fits = structure.usePaddingMask ? choice + "_fits" : choice + "_kept";
      b.add("Less", {choice + "_slot", "C"}, fits);
      if (structure.usePaddingMask)
        b.add("And", {fits, "routed"}, choice + "_kept");
    }
  }

  /// [G,S,E]: how many tokens before this one, in routing order, made the same choice.
  std::string countEarlier(const std::string &choice) {
    const Attributes exclusive = {{"exclusive", int64_t(1)}};
    std::string count = choice + "_earlier";
    if (!structure.batchPrioritized)
      return b.add("CumSum", {mask(choice), "one"}, count, exclusive);
    b.add("GatherElements", {mask(choice), "order_rows"}, choice + "_sorted", {{"axis", int64_t(1)}});
    b.add("CumSum", {choice + "_sorted", "one"}, choice + "_sorted_earlier", exclusive);
    return b.add("GatherElements", {choice + "_sorted_earlier", "rank_rows"}, count, {{"axis", int64_t(1)}});
  }

  /// From all rows, padding included, and from the first choices before any is dropped.
  void auxiliaryLoss() {
    b.add("Cast", {mask("first")}, "first_f", {{"to", int64_t(onnx::TensorProto::FLOAT)}});
    b.add("ReduceMean", {"p", "axis_1"}, "mean_p", {{"keepdims", int64_t(0)}});
    b.add("ReduceMean", {"first_f", "axis_1"}, "mean_first", {{"keepdims", int64_t(0)}});
    b.add("Mul", {"mean_p", "mean_first"}, "balance");
    b.add("ReduceSum", {"balance", "axis_1"}, "balance_sum", {{"keepdims", int64_t(0)}});
    b.add("Cast", {"E"}, "E_f", {{"to", int64_t(onnx::TensorProto::FLOAT)}});
    b.add("Mul", {"balance_sum", "E_f"}, "l_aux");
  }

  /// Combine weights [G,S], zero for dropped choices.
  void weights() {
    if (structure.topK == 1) {
      b.add("Where", {"first_kept", "first_p", "nothing"}, "first_weight");
      return;
    }
    b.scalar(static_cast<double>(std::numeric_limits<float>::epsilon()), "epsilon");
    auto drop = [&](const std::string &from, const std::string &to) {
      for (const std::string &choice : choices())
        b.add("Where", {choice + "_kept", choice + from, "nothing"}, choice + to);
    };
    auto normalize = [&](const std::string &from, const std::string &to) {
      b.add("Add", {"first" + from, "second" + from}, "total");
      b.add("Max", {"total", "epsilon"}, "denominator");
      for (const std::string &choice : choices())
        b.add("Div", {choice + from, "denominator"}, choice + to);
    };
    if (structure.normalizeBeforeDropping) {
      normalize("_p", "_share");
      drop("_share", "_weight");
    } else {
      drop("_p", "_surviving");
      normalize("_surviving", "_weight");
    }
  }

  /// Rows [E, G*C, M] of the dispatch buffer.
  void dispatch() {
    b.add("Squeeze", {"routing_groups"}, "G");
    b.add("Range", {"zero", "G", "one"}, "group");
    b.add("Unsqueeze", {"group", "axis_1"}, "group_column");
    b.add("Mul", {"G", "C"}, "rows_per_expert");
    b.add("Mul", {"rows_per_expert", "E"}, "rows");
    b.add("Add", {"rows", "one"}, "rows_and_sink");
    b.add("Concat", {"rows_and_sink", "M"}, "buffer_shape", {{"axis", int64_t(0)}});
    std::string buffer = b.add("ConstantOfShape", {"buffer_shape"}, "buffer");
    for (const std::string &choice : choices()) {
      b.add("Mul", {choice, "G"}, choice + "_expert_base");
      b.add("Add", {choice + "_expert_base", "group_column"}, choice + "_block");
      b.add("Mul", {choice + "_block", "C"}, choice + "_block_base");
      b.add("Add", {choice + "_block_base", choice + "_slot"}, choice + "_row_if_kept");
      b.add("Where", {choice + "_kept", choice + "_row_if_kept", "rows"}, choice + "_target");
      b.add("Unsqueeze", {choice + "_target", "axis_last"}, choice + "_targets");
      buffer = b.add("ScatterND", {buffer, choice + "_targets", "tokens"}, choice + "_dispatched");
    }
    b.add("Slice", {buffer, "axis_0", "rows", "axis_0"}, "dispatched");
    b.add("Concat", {"E_1", "axis_last", "M"}, "rows_shape", {{"axis", int64_t(0)}});
    b.add("Reshape", {"dispatched", "rows_shape"}, "expert_input");
  }

  void experts() {
    std::string hidden = linear("fc1", "expert_input");
    hidden = addActivation(b, structure.activation, hidden, "activated");
    b.attribute("activation_dropout", onnx::AttributeProto::FLOAT, "activation_ratio");
    hidden = b.add("Dropout", {hidden, "activation_ratio"}, "activated_dropped");
    std::string output = linear("fc2", hidden);
    b.attribute("dropout", onnx::AttributeProto::FLOAT, "ratio");
    output = b.add("Dropout", {output, "ratio"}, "expert_output");
    b.add("Concat", {"axis_last", "M"}, "flat_shape", {{"axis", int64_t(0)}});
    b.add("Reshape", {output, "flat_shape"}, "expert_rows");
  }

  /// x [E,R,in] W^T [E,in,out] + b [E,1,out].
  std::string linear(const std::string &layer, const std::string &input) {
    b.add("Transpose", {layer + "_weight"}, layer + "_weight_t", {{"perm", std::vector<int64_t>{0, 2, 1}}});
    b.add("MatMul", {input, layer + "_weight_t"}, layer + "_product");
    b.add("Unsqueeze", {layer + "_bias", "axis_1"}, layer + "_bias_row");
    return b.add("Add", {layer + "_product", layer + "_bias_row"}, layer);
  }

  /// A dropped choice reads row 0 with weight zero.
  void combine() {
    std::string sum;
    for (const std::string &choice : choices()) {
      b.add("Where", {choice + "_kept", choice + "_row_if_kept", "zero"}, choice + "_source");
      b.add("Gather", {"expert_rows", choice + "_source"}, choice + "_read", {{"axis", int64_t(0)}});
      b.add("Unsqueeze", {choice + "_weight", "axis_last"}, choice + "_weight_column");
      std::string part = b.add("Mul", {choice + "_read", choice + "_weight_column"}, choice + "_part");
      sum = sum.empty() ? part : b.add("Add", {sum, part}, "combined");
    }
    b.add("Reshape", {sum, "x_shape"}, "y");
  }

  std::string &mask(const std::string &choice) { return choice == "first" ? firstMask : secondMask; }

  NodeBuilder b;
  const MoeStructure &structure;
  std::string firstMask, secondMask;
};

} // namespace

onnx::FunctionProto moeFunction(int64_t opset, const MoeStructure &structure) {
  onnx::FunctionProto function;
  function.set_domain(kDomain);
  function.set_name("MoE");
  function.set_doc_string("Gate with capacity, dispatch, experts, combine. The body uses the capacity of training and "
                          "draws no noise.");
  for (const char *name :
       {"x", "gate", "fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias", "routing_groups", "padding_mask"})
    function.add_input(name);
  for (const char *name : {"y", "l_aux"})
    function.add_output(name);
  for (const char *name : {"num_experts", "top_k", "capacity_factor", "eval_capacity_token_fraction",
                           "second_expert_policy", "normalize_gate_prob_before_dropping", "batch_prioritized_routing",
                           "gating_use_fp32", "normalize_expert_grad", "activation", "dropout", "activation_dropout"})
    function.add_attribute(name);
  onnx::OperatorSetIdProto &version = *function.add_opset_import();
  version.set_version(opset);
  MoeBody(function, structure).write();
  return function;
}

} // namespace moe::models
