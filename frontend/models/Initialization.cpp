//===- Initialization.cpp -----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/Initialization.h"

namespace moe::models {
namespace {

std::string initialName(const std::string &name) {
  return name + ".initial";
}

} // namespace

Initialization::Initialization(onnx::TrainingInfoProto &info)
    : info(info), nodes(*info.mutable_initialization()->mutable_node()) {
  info.mutable_initialization()->set_name("initialization");
}

void Initialization::normal(const std::string &name, const Shape &shape, double deviation) {
  nodes.add("RandomNormal", {}, initialName(name), {{"mean", 0.0}, {"scale", deviation}, {"shape", shape}});
  bind(name, shape);
}

void Initialization::normalExceptRow(const std::string &name, const Shape &shape, double deviation, int64_t row) {
  const std::string drawn = name + ".drawn", rows = name + ".zero_rows", zeros = name + ".zeros";
  nodes.add("RandomNormal", {}, drawn, {{"mean", 0.0}, {"scale", deviation}, {"shape", shape}});
  nodes.list({row}, name + ".zero_row");
  nodes.list({1, 1}, name + ".zero_rows.shape");
  nodes.add("Reshape", {name + ".zero_row", name + ".zero_rows.shape"}, rows);
  fill(zeros, {1, shape[1]}, 0.0f);
  nodes.add("ScatterND", {drawn, rows, zeros}, initialName(name));
  bind(name, shape);
}

void Initialization::uniform(const std::string &name, const Shape &shape, double bound) {
  nodes.add("RandomUniform", {}, initialName(name), {{"low", -bound}, {"high", bound}, {"shape", shape}});
  bind(name, shape);
}

void Initialization::constant(const std::string &name, const Shape &shape, float value) {
  fill(initialName(name), shape, value);
  bind(name, shape);
}

void Initialization::fill(const std::string &output, const Shape &shape, float value) {
  onnx::TensorProto element;
  element.set_data_type(onnx::TensorProto::FLOAT);
  element.add_dims(1);
  element.add_float_data(value);
  nodes.list(shape, output + ".shape");
  nodes.add("ConstantOfShape", {output + ".shape"}, output, {{"value", element}});
}

void Initialization::bind(const std::string &name, const Shape &shape) {
  onnx::ValueInfoProto &output = *info.mutable_initialization()->add_output();
  output.set_name(initialName(name));
  onnx::TypeProto::Tensor &type = *output.mutable_type()->mutable_tensor_type();
  type.set_elem_type(onnx::TensorProto::FLOAT);
  for (int64_t extent : shape)
    type.mutable_shape()->add_dim()->set_dim_value(extent);
  onnx::StringStringEntryProto &binding = *info.add_initialization_binding();
  binding.set_key(name);
  binding.set_value(initialName(name));
}

} // namespace moe::models
