//===- ExportNamesTest.cpp - What the tensors of a model were called in PyTorch
//------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ExportNames.h"
#include "TestModel.h"
#include "mlir/IR/BuiltinAttributes.h"
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;
using frontend::ExportName;

namespace {

/// x [3, 3] times weights; each product has what an exporter writes beside it.
class Layers : public TestModel {
public:
  Layers() {
    input("x", {3, 3});
    options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  }

  /// A product by `weight` [3, 3] as `op`, named `path`; the metadata are those of torch.export.
  onnx::NodeProto &layer(const std::string &weightName, const std::string &op, const std::string &path,
                         const std::string &call = "", const std::string &scopes = "") {
    weight(weightName, {3, 3}, std::vector<float>(9, 0.5f));
    std::string result = "y" + std::to_string(graph.node_size());
    nodes.add(op, {last, weightName}, result);
    last = result;
    onnx::NodeProto &node = *graph.mutable_node()->rbegin();
    node.set_name(path);
    for (auto [key, value] : {std::pair{"fx_node", &call}, std::pair{"name_scopes", &scopes}})
      if (!value->empty()) {
        onnx::StringStringEntryProto *entry = node.add_metadata_props();
        entry->set_key(std::string("pkg.torch.onnx.") + key);
        entry->set_value(*value);
      }
    return node;
  }

  ExportName nameOf(const std::string &initializer) {
    if (!module) {
      nodes.add("ReduceSum", {last}, "loss");
      output("loss");
      EXPECT_TRUE(import()) << messages();
    }
    std::vector<Diagnostic> problems;
    return frontend::originalName(*frontend::Model::read(path(), problems), initializer);
  }

  std::string exports() {
    std::string text;
    llvm::raw_string_ostream stream(text);
    if (auto names = module->getOperation()->getAttrOfType<mlir::DictionaryAttr>("moe.exports"))
      names.print(stream);
    return text;
  }

  std::string last = "x";
};

const char *kScopes = "['', 'm', 'm.layers.0', 'm.layers.0.mlp', 'm.layers.0.mlp.up_proj', 'linear']";

TEST(ExportNames, DotsComeFromTheScopes) {
  Layers model;
  model.layer("val_1", "MatMul", "n", "%linear = call(args = (%mul, %p_m_layers_0_mlp_up_proj_weight), kwargs = {})",
              kScopes);
  model.layer("val_2", "Add", "n2", "%index = call(args = (%p_m_layers_0_mlp_gate_up_scale, [%view]))", kScopes);
  EXPECT_EQ(model.nameOf("val_1"), (ExportName{"m.layers.0.mlp.up_proj.weight", true}));
  // A parameter of the module itself; what is no product is not transposed.
  EXPECT_EQ(model.nameOf("val_2"), (ExportName{"m.layers.0.mlp.gate_up_scale", false}));
  EXPECT_EQ(model.exports(), "{val_1 = [[\"m.layers.0.mlp.up_proj.weight\", array<i64: 1, 0>]], "
                             "val_2 = [[\"m.layers.0.mlp.gate_up_scale\", array<i64>]]}");
}

TEST(ExportNames, AProductInAnotherForm) {
  Layers model;
  const char *call = "%linear = call(args = (%mul, %p_a_weight), kwargs = {})";
  for (int transposed : {0, 1}) {
    onnx::NodeProto &node = model.layer("val_" + std::to_string(transposed), "Gemm", "n", call, "['', 'a', 'linear']");
    onnx::AttributeProto *attribute = node.add_attribute();
    attribute->set_name("transB");
    attribute->set_type(onnx::AttributeProto::INT);
    attribute->set_i(transposed);
  }
  // Gemm says by an attribute how its weight lies.
  EXPECT_EQ(model.nameOf("val_0"), (ExportName{"a.weight", true}));
  EXPECT_EQ(model.nameOf("val_1"), (ExportName{"a.weight", false}));
  // Two tensors with one name: neither is renamed.
  EXPECT_EQ(model.exports(), "");
}

TEST(ExportNames, OthersKeepTheirs) {
  Layers model;
  model.layer("onnx::MatMul_7", "MatMul", "/encoder/layer.0/query/MatMul");
  model.layer("onnx::MatMul_8", "MatMul", "/MatMul_1");
  model.layer("named.weight", "MatMul", "/a/MatMul");
  model.layer("val_3", "MatMul", "n", "%linear = call(args = (%mul, %p_b_weight, %p_b_scale))", "['', 'b']");
  model.layer("val_4", "MatMul", "n", "%linear = call(args = (%mul, %p_b_weight))", "['', 'c', 'unclosed");
  EXPECT_EQ(model.nameOf("onnx::MatMul_7"), (ExportName{"encoder.layer.0.query.weight", true}));
  EXPECT_EQ(model.nameOf("named.weight"), (ExportName{"named.weight", false}));
  // Which of two parameters it is, nothing says; nor where the dots of a parameter of no scope were.
  for (const char *unknown : {"val_3", "val_4"})
    EXPECT_EQ(model.nameOf(unknown), (ExportName{unknown, false}));
}

TEST(ExportNames, TiedTensorsAreWrittenTwice) {
  Layers model;
  model.layer("table.weight", "MatMul", "n");
  model.layer("val_1", "MatMul", "n", "%linear = call(args = (%mul, %p_lm_head_weight))", "['', 'lm_head', 'linear']");
  model.options.ties = {{"table.weight", "val_1", true}};
  EXPECT_EQ(model.nameOf("val_1").name, "lm_head.weight");
  // val_1 is the table transposed, and lm_head.weight val_1 transposed.
  EXPECT_EQ(model.exports(), "{table.weight = [[\"table.weight\", array<i64>], [\"lm_head.weight\", array<i64>]]}");
}

} // namespace
