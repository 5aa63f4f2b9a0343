//===- AttentionFunction.cpp - The body of ai.moec.Attention ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/Functions.h"
#include <limits>

namespace moe::models {

std::string addActivation(NodeBuilder &nodes, const std::string &name, const std::string &input,
                          const std::string &output) {
  if (name == "gelu")
    return nodes.add("Gelu", {input}, output);
  if (name == "gelu_tanh")
    return nodes.add("Gelu", {input}, output, {{"approximate", std::string("tanh")}});
  if (name == "relu")
    return nodes.add("Relu", {input}, output);
  if (name == "tanh")
    return nodes.add("Tanh", {input}, output);
  return input;
}

onnx::FunctionProto attentionFunction(int64_t opset) {
  onnx::FunctionProto function;
  function.set_domain(kDomain);
  function.set_name("Attention");
  function.set_doc_string("Causal multi-head self-attention between its input and output projections.");
  for (const char *name : {"q", "k", "v", "key_padding_mask"})
    function.add_input(name);
  function.add_output("output");
  for (const char *name : {"num_heads", "scale", "causal", "dropout"})
    function.add_attribute(name);
  onnx::OperatorSetIdProto &version = *function.add_opset_import();
  version.set_version(opset);

  NodeBuilder b(*function.mutable_node());
  b.attribute("num_heads", onnx::AttributeProto::INT, "heads");
  b.attribute("scale", onnx::AttributeProto::FLOAT, "factor");
  b.attribute("dropout", onnx::AttributeProto::FLOAT, "ratio");
  b.list({0}, "axis_0");
  b.list({1}, "axis_1");
  b.list({1, 2}, "axes_1_2");
  b.list({0, 0, -1}, "merged");
  b.add("Unsqueeze", {"heads", "axis_0"}, "heads_1");
  b.list({0, 0}, "keep");
  b.list({-1}, "rest");
  b.add("Concat", {"keep", "heads_1", "rest"}, "split", {{"axis", int64_t(0)}});

  auto perHead = [&](const std::string &input, const std::vector<int64_t> &order) {
    b.add("Reshape", {input, "split"}, input + "_split");
    b.add("Transpose", {input + "_split"}, input + "_heads", {{"perm", order}});
  };
  b.add("Mul", {"q", "factor"}, "q_scaled");
  perHead("q_scaled", {0, 2, 1, 3});
  perHead("k", {0, 2, 3, 1});
  perHead("v", {0, 2, 1, 3});
  b.add("MatMul", {"q_scaled_heads", "k_heads"}, "scores");

  b.add("Shape", {"q"}, "length_1", {{"start", int64_t(1)}, {"end", int64_t(2)}});
  b.add("Squeeze", {"length_1"}, "length");
  b.scalar(int64_t(0), "zero");
  b.scalar(int64_t(1), "one");
  b.add("Range", {"zero", "length", "one"}, "index");
  b.add("Unsqueeze", {"index", "axis_0"}, "key_index");
  b.add("Unsqueeze", {"index", "axis_1"}, "query_index");
  b.add("LessOrEqual", {"key_index", "query_index"}, "causal_mask");
  b.add("Not", {"key_padding_mask"}, "real_keys");
  b.add("Unsqueeze", {"real_keys", "axes_1_2"}, "real_keys_4d");
  b.add("And", {"causal_mask", "real_keys_4d"}, "allowed");

  b.scalar(-std::numeric_limits<double>::infinity(), "minus_infinity");
  b.scalar(0.0, "nothing");
  b.add("Where", {"allowed", "scores", "minus_infinity"}, "masked");
  b.add("Softmax", {"masked"}, "softmax", {{"axis", int64_t(-1)}});
  // A row without any key is NaN after the softmax; it becomes zero.
  b.add("Where", {"allowed", "softmax", "nothing"}, "probabilities");
  b.add("Dropout", {"probabilities", "ratio"}, "probabilities_dropped");
  b.add("MatMul", {"probabilities_dropped", "v_heads"}, "context");
  b.add("Transpose", {"context"}, "context_tokens", {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  b.add("Reshape", {"context_tokens", "merged"}, "output");
  return function;
}

} // namespace moe::models
