//===- Body.cpp ---------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ops/Body.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// The standard whose operators bodies are written in.
constexpr int64_t kOpset = 23;

void write(onnx::AttributeProto &to, int64_t value) {
  to.set_type(onnx::AttributeProto::INT);
  to.set_i(value);
}
void write(onnx::AttributeProto &to, double value) {
  to.set_type(onnx::AttributeProto::FLOAT);
  to.set_f(static_cast<float>(value));
}
void write(onnx::AttributeProto &to, const std::string &value) {
  to.set_type(onnx::AttributeProto::STRING);
  to.set_s(value);
}
void write(onnx::AttributeProto &to, const Shape &value) {
  to.set_type(onnx::AttributeProto::INTS);
  for (int64_t item : value)
    to.add_ints(item);
}

} // namespace

Body::Body(NodeContext &n) : n(n) {
  inner.path = n.scope.path + nodeName(n.node) + "/";
  inner.opset = kOpset;
  inner.depth = n.scope.depth + 1;
}

std::string Body::add(Value value) {
  std::string name = "value_" + std::to_string(count++);
  inner.values[name] = value;
  return name;
}

std::string Body::operand(int index) {
  return n.hasInput(index) ? add(n.input(index)) : std::string();
}

std::string Body::constant(llvm::ArrayRef<int64_t> values) {
  return add(n.constant(values));
}

std::string Body::number(double value, Value like) {
  return add(like ? n.splat(RankedTensorType::get({}, n.element(like)), value) : Value());
}

std::vector<std::string> Body::nodes(llvm::StringRef type, Names inputs, size_t results, Attributes attributes) {
  google::protobuf::RepeatedPtrField<onnx::NodeProto> body;
  onnx::NodeProto &node = *body.Add();
  node.set_op_type(type.str());
  for (const std::string &input : inputs)
    node.add_input(input);
  std::vector<std::string> names;
  for (size_t i = 0; i < results; ++i) {
    names.push_back(type.str() + "_" + std::to_string(count++));
    node.add_output(names.back());
  }
  for (const Attribute &attribute : attributes) {
    onnx::AttributeProto &to = *node.add_attribute();
    to.set_name(attribute.name);
    std::visit([&](const auto &value) { write(to, value); }, attribute.value);
  }
  if (!n.failed())
    n.program.importNodes(inner, body);
  return names;
}

std::string Body::node(llvm::StringRef type, Names inputs, Attributes attributes) {
  return nodes(type, inputs, 1, attributes).front();
}

Value Body::value(llvm::StringRef name) {
  return inner.values.lookup(name);
}

void Body::output(int index, llvm::StringRef name) {
  n.output(index, value(name));
}

} // namespace moe::frontend
