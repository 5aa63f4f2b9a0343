//===- NodeBuilder.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/NodeBuilder.h"
#include <charconv>

namespace moe::models {
namespace {

struct AttributeWriter {
  onnx::NodeProto &node;
  onnx::AttributeProto &proto;

  void operator()(int64_t value) const {
    proto.set_type(onnx::AttributeProto::INT);
    proto.set_i(value);
  }
  void operator()(double value) const {
    proto.set_type(onnx::AttributeProto::FLOAT);
    proto.set_f(static_cast<float>(value));
    if (static_cast<double>(proto.f()) == value)
      return;
    char text[32];
    auto [end, code] = std::to_chars(text, text + sizeof(text), value);
    onnx::StringStringEntryProto &exact = *node.add_metadata_props();
    exact.set_key(kExactPrefix + proto.name());
    exact.set_value(std::string(text, end));
  }
  void operator()(const std::string &value) const {
    proto.set_type(onnx::AttributeProto::STRING);
    proto.set_s(value);
  }
  void operator()(const std::vector<int64_t> &values) const {
    proto.set_type(onnx::AttributeProto::INTS);
    proto.mutable_ints()->Add(values.begin(), values.end());
  }
  void operator()(const onnx::TensorProto &value) const {
    proto.set_type(onnx::AttributeProto::TENSOR);
    *proto.mutable_t() = value;
  }
  void operator()(const AttributeReference &value) const {
    proto.set_type(value.type);
    proto.set_ref_attr_name(value.name);
  }
};

} // namespace

void setAttribute(onnx::NodeProto &node, const Attribute &attribute) {
  onnx::AttributeProto &proto = *node.add_attribute();
  proto.set_name(attribute.name);
  std::visit(AttributeWriter{node, proto}, attribute.value);
}

onnx::NodeProto &NodeBuilder::addNode(const std::string &domain, const std::string &op, const Names &inputs,
                                      const Names &outputs, const Attributes &attributes) {
  onnx::NodeProto &node = *nodes.Add();
  node.set_name(outputs.front());
  node.set_domain(domain);
  node.set_op_type(op);
  for (const std::string &name : inputs)
    node.add_input(name);
  for (const std::string &name : outputs)
    node.add_output(name);
  for (const Attribute &attribute : attributes)
    setAttribute(node, attribute);
  return node;
}

std::string NodeBuilder::add(const std::string &op, const Names &inputs, const std::string &output,
                             const Attributes &attributes) {
  addNode("", op, inputs, {output}, attributes);
  return output;
}

std::string NodeBuilder::embedding(const std::string &table, const std::string &index, const std::string &output,
                                   int64_t paddingIndex) {
  onnx::NodeProto &node = addNode("", "Gather", {table, index}, {output}, {{"axis", int64_t(0)}});
  onnx::StringStringEntryProto &padding = *node.add_metadata_props();
  padding.set_key(kPaddingIndexKey);
  padding.set_value(std::to_string(paddingIndex));
  return output;
}

std::string NodeBuilder::scalar(int64_t value, const std::string &output) {
  return add("Constant", {}, output, {{"value_int", value}});
}

std::string NodeBuilder::scalar(double value, const std::string &output) {
  return add("Constant", {}, output, {{"value_float", value}});
}

std::string NodeBuilder::list(const std::vector<int64_t> &values, const std::string &output) {
  return add("Constant", {}, output, {{"value_ints", values}});
}

std::string NodeBuilder::attribute(const std::string &attribute, onnx::AttributeProto::AttributeType type,
                                   const std::string &output) {
  const char *field = type == onnx::AttributeProto::INT ? "value_int" : "value_float";
  return add("Constant", {}, output, {{field, AttributeReference{attribute, type}}});
}

} // namespace moe::models
