//===- OnnxMutatorTest.cpp ----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTables.h"
#include "onnx/onnx-ml.pb.h"
#include "test/fuzz/Mutators.h"

#include <gtest/gtest.h>
#include <set>
#include <string>

using namespace moe;

namespace {

/// y = Gelu(x * w) by two nodes.
onnx::ModelProto smallModel() {
  onnx::ModelProto model;
  model.set_ir_version(10);
  model.add_opset_import()->set_version(20);
  onnx::GraphProto &graph = *model.mutable_graph();
  onnx::ValueInfoProto &input = *graph.add_input();
  input.set_name("x");
  onnx::TypeProto::Tensor &type = *input.mutable_type()->mutable_tensor_type();
  type.set_elem_type(onnx::TensorProto::FLOAT);
  type.mutable_shape()->add_dim()->set_dim_value(2);
  onnx::TensorProto &weight = *graph.add_initializer();
  weight.set_name("w");
  weight.set_data_type(onnx::TensorProto::FLOAT);
  weight.add_dims(2);
  weight.add_float_data(1);
  weight.add_float_data(2);
  auto node = [&](const char *op, std::vector<const char *> inputs, const char *output) {
    onnx::NodeProto &added = *graph.add_node();
    added.set_op_type(op);
    for (const char *name : inputs)
      added.add_input(name);
    added.add_output(output);
  };
  node("Mul", {"x", "w"}, "h");
  node("Gelu", {"h"}, "y");
  graph.add_output()->set_name("y");
  return model;
}

TEST(OnnxMutator, TouchesEveryPartAndStaysReadable) {
  const onnx::ModelProto before = smallModel();
  std::set<std::string> operators;
  int readable = 0;
  bool opset = false, external = false, nested = false, function = false, cycle = false, shape = false;
  for (unsigned seed = 0; seed < 5000; ++seed) {
    onnx::ModelProto after = before;
    fuzz::Random random(seed);
    fuzz::mutateModel(after, random);
    onnx::ModelProto read;
    readable += read.ParseFromString(after.SerializeAsString());
    opset |= after.opset_import_size() > 0 && after.opset_import(0).version() != 20;
    function |= after.functions_size() > 0;
    for (const onnx::TensorProto &tensor : after.graph().initializer()) {
      external |= tensor.data_location() == onnx::TensorProto::EXTERNAL;
      shape |= tensor.name() == "w" && (tensor.dims_size() != 1 || tensor.dims(0) != 2);
    }
    for (const onnx::NodeProto &node : after.graph().node()) {
      if (frontend::findOp(node.domain(), node.op_type(), 1000))
        operators.insert(node.op_type());
      for (const onnx::AttributeProto &attribute : node.attribute())
        nested |= attribute.has_g() && attribute.g().node_size() > 0;
      for (const std::string &input : node.input())
        cycle |= node.output_size() > 0 && input == node.output(0);
    }
  }
  // Groups among unknown fields, which changed bytes may begin, are not always written as they were read.
  EXPECT_GT(readable, 4950);
  EXPECT_TRUE(opset && external && nested && function && cycle && shape);
  std::set<std::string> known;
  for (llvm::ArrayRef<frontend::OpEntry> table : frontend::opTables())
    for (const frontend::OpEntry &entry : table)
      known.insert(entry.name);
  EXPECT_GT(known.size(), 100u);
  EXPECT_GT(operators.size(), known.size() * 9 / 10);
}

TEST(OnnxMutator, SplicesNodesWithTheirWeights) {
  onnx::ModelProto model = smallModel();
  fuzz::Random random(3);
  for (int i = 0; i < 20; ++i)
    fuzz::spliceModel(model, smallModel(), random);
  EXPECT_GE(model.graph().node_size(), 22);
  EXPECT_GE(model.graph().initializer_size(), 2);
  // Every name that a new node reads is defined.
  std::set<std::string> names = {"x"};
  for (const onnx::TensorProto &tensor : model.graph().initializer())
    names.insert(tensor.name());
  for (const onnx::NodeProto &node : model.graph().node()) {
    for (const std::string &input : node.input())
      EXPECT_TRUE(names.contains(input)) << input;
    names.insert(node.output().begin(), node.output().end());
  }
}

} // namespace
