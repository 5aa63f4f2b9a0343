//===- TestModel.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "TestModel.h"
#include <atomic>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace moe::test {

namespace fs = std::filesystem;

TestModel::TestModel(int64_t opset) : graph(*proto.mutable_graph()), nodes(*graph.mutable_node()) {
  static std::atomic<int> count = 0;
  folder = fs::temp_directory_path() / ("moec-import-" + std::to_string(getpid()) + "-" + std::to_string(count++));
  fs::create_directories(folder);
  proto.set_ir_version(10);
  proto.add_opset_import()->set_version(opset);
  graph.set_name("test");
}

TestModel::~TestModel() {
  fs::remove_all(folder);
}

void TestModel::input(const std::string &name, const std::vector<int64_t> &shape, int type) {
  onnx::ValueInfoProto &value = *graph.add_input();
  value.set_name(name);
  onnx::TypeProto::Tensor &tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape();
  for (int64_t extent : shape)
    tensor.mutable_shape()->add_dim()->set_dim_value(extent);
}

void TestModel::symbolicInput(const std::string &name, const std::vector<std::string> &shape) {
  input(name, {});
  for (const std::string &symbol : shape)
    graph.mutable_input()->rbegin()->mutable_type()->mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_param(
        symbol);
}

void TestModel::output(const std::string &name) {
  graph.add_output()->set_name(name);
}

onnx::TensorProto &TestModel::weight(const std::string &name, const std::vector<int64_t> &shape,
                                     const std::vector<float> &values) {
  onnx::TensorProto &tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  for (int64_t extent : shape)
    tensor.add_dims(extent);
  tensor.mutable_float_data()->Add(values.begin(), values.end());
  return tensor;
}

void TestModel::write() const {
  std::ofstream stream(path(), std::ios::binary);
  ASSERT_TRUE(proto.SerializeToOstream(&stream));
}

bool TestModel::import() {
  write();
  diagnostics.clear();
  module = frontend::importOnnx(context, path(), options, diagnostics);
  return static_cast<bool>(module);
}

std::map<std::string, std::vector<double>> TestModel::run(const std::vector<std::vector<double>> &inputs,
                                                          const std::string &program) {
  std::map<std::string, std::vector<double>> results;
  EXPECT_TRUE(module) << messages();
  if (!module)
    return results;
  std::vector<ir::HostTensor> arguments;
  for (auto [type, values] : llvm::zip_equal(function(program).getArgumentTypes(), inputs)) {
    ir::HostTensor &argument = arguments.emplace_back(llvm::cast<mlir::RankedTensorType>(type));
    EXPECT_EQ(static_cast<size_t>(argument.size()), values.size());
    if (argument.isFloat)
      argument.floats = values;
    else
      argument.ints.assign(values.begin(), values.end());
  }
  ir::InterpreterState state(*module);
  auto outputs = ir::interpret(*module, program, arguments, state);
  EXPECT_TRUE(llvm::succeeded(outputs));
  if (llvm::failed(outputs))
    return results;
  for (auto [i, output] : llvm::enumerate(*outputs)) {
    std::string name =
        function(program).getResultAttrOfType<mlir::StringAttr>(static_cast<unsigned>(i), "moe.name").str();
    for (int64_t j = 0; j < output.size(); ++j)
      results[name].push_back(output.at(j));
  }
  return results;
}

std::string TestModel::messages() const {
  std::string text;
  for (const Diagnostic &diagnostic : diagnostics)
    text += diagnostic.str() + "\n";
  return text;
}

std::vector<double> ramp(int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back((i % 2 ? -0.1 : 0.1) * static_cast<double>(i + 1));
  return values;
}

std::vector<float> floatRamp(int64_t count) {
  std::vector<double> values = ramp(count);
  return {values.begin(), values.end()};
}

} // namespace moe::test
