//===- ImportTest.cpp - Files, programs, state and messages of the importer ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "TestModel.h"
#include "frontend/models/TransformerLm.h"
#include <cmath>
#include <fstream>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

void expectMessage(const TestModel &model, const std::string &part) {
  EXPECT_NE(model.messages().find(part), std::string::npos) << "no '" << part << "' in:\n" << model.messages();
}

/// Where the elements of external data lie.
void makeExternal(onnx::TensorProto &tensor, const std::string &location, int64_t offset) {
  tensor.clear_float_data();
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (auto [key, value] :
       {std::pair<const char *, std::string>{"location", location}, {"offset", std::to_string(offset)}}) {
    onnx::StringStringEntryProto &entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  }
}

ir::StateOp stateOf(TestModel &m, const std::string &name) {
  return m.module->lookupSymbol<ir::StateOp>(name);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------------------------------------------------===//

TEST(Import, AllGapsAtOnceAndNoEchoes) {
  TestModel m;
  m.input("x", {2});
  m.nodes.add("NonMaxSuppression", {"x"}, "first");
  m.nodes.add("Neg", {"first"}, "echo");
  m.nodes.addNode("com.example", "Magic", {"x"}, {"second"});
  m.nodes.add("Add", {"echo", "second"}, "y");
  m.output("y");
  EXPECT_FALSE(m.import());
  ASSERT_EQ(m.diagnostics.size(), 2u) << m.messages();
  expectMessage(m, "cannot import node 'first': NonMaxSuppression (opset 20)");
  expectMessage(m, "cannot import node 'second': com.example.Magic");
}

TEST(Import, QuantisedModelsAreRefusedByName) {
  TestModel m;
  m.input("x", {2});
  onnx::TensorProto &zero = *m.graph.add_initializer();
  zero.set_name("zero");
  zero.set_data_type(onnx::TensorProto::UINT8);
  zero.add_int32_data(3);
  m.nodes.scalar(1.0f, "scale");
  m.nodes.add("QuantizeLinear", {"x", "scale", "zero"}, "q");
  m.nodes.add("DequantizeLinear", {"q", "scale", "zero"}, "d");
  m.nodes.addNode("com.microsoft", "QLinearAdd", {"q", "scale", "zero", "q", "scale", "zero", "scale", "zero"}, {"s"});
  m.nodes.add("Relu", {"d"}, "y");
  m.output("y");
  EXPECT_FALSE(m.import());
  ASSERT_EQ(m.diagnostics.size(), 1u) << m.messages();
  expectMessage(m, "a quantised model cannot be trained");
  expectMessage(m, "it has DequantizeLinear (1), QLinearAdd (1), QuantizeLinear (1)");
  expectMessage(m, "bf16");

  // Also within the branch of a condition.
  TestModel nested;
  nested.input("x", {2});
  nested.output("y");
  onnx::NodeProto &node = *nested.graph.add_node();
  node.set_op_type("If");
  onnx::AttributeProto &branch = *node.add_attribute();
  branch.set_name("then_branch");
  branch.set_type(onnx::AttributeProto::GRAPH);
  branch.mutable_g()->add_node()->set_op_type("MatMulInteger");
  EXPECT_FALSE(nested.import());
  expectMessage(nested, "MatMulInteger (1)");
}

TEST(Import, OperatorOfAnOlderOpset) {
  TestModel m(9);
  m.input("x", {2});
  m.nodes.add("Clip", {"x"}, "y");
  m.output("y");
  EXPECT_FALSE(m.import());
  expectMessage(m, "from opset 11 on");
}

TEST(Import, UnboundDimensionsAreNamed) {
  TestModel m;
  m.symbolicInput("x", {"batch", "seq"});
  m.nodes.add("Neg", {"x"}, "y");
  m.output("y");
  EXPECT_FALSE(m.import());
  expectMessage(m, "--bind batch=N");
  expectMessage(m, "--bind seq=N");
  m.options.bindings = {{"batch", 4}, {"seq", 3}};
  m.options.evalBindings = {{"batch", 1}};
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.resultType(0).getShape(), llvm::ArrayRef<int64_t>({4, 3}));
  auto eval = llvm::cast<mlir::RankedTensorType>(m.function("eval").getResultTypes()[0]);
  EXPECT_EQ(eval.getShape(), llvm::ArrayRef<int64_t>({1, 3}));
}

TEST(Import, BindingsOnTheCommandLine) {
  frontend::ImportOptions options;
  EXPECT_TRUE(frontend::addBinding("batch=4", options).has_value());
  EXPECT_TRUE(frontend::addBinding("eval.batch=1", options).has_value());
  EXPECT_EQ(options.bindings.at("batch"), 4);
  EXPECT_EQ(options.evalBindings.at("batch"), 1);
  for (const char *text : {"batch", "batch=", "batch=0", "batch=-1", "=4", "batch=4x"})
    EXPECT_EQ(frontend::addBinding(text, options).error().code, ExitCode::Usage) << text;
}

TEST(Import, MissingOutputListsTheOthers) {
  TestModel m;
  m.input("x", {2});
  m.nodes.add("Neg", {"x"}, "y");
  m.output("y");
  m.options.outputs = {"loss"};
  EXPECT_FALSE(m.import());
  expectMessage(m, "the model has no output 'loss'");
  expectMessage(m, "its outputs are: y");
}

//===----------------------------------------------------------------------------------------------------------------===//
// Hostile files
//===----------------------------------------------------------------------------------------------------------------===//

TEST(Hostile, MissingTruncatedAndForeignFiles) {
  TestModel m;
  EXPECT_FALSE(frontend::importOnnx(m.context, m.path() + ".missing", m.options, m.diagnostics));
  expectMessage(m, "cannot read the model");
  m.input("x", {2});
  m.nodes.add("Neg", {"x"}, "y");
  m.output("y");
  m.write();
  const std::string whole = m.proto.SerializeAsString();
  for (size_t size = 0; size < whole.size(); ++size) {
    std::ofstream(m.path(), std::ios::binary) << whole.substr(0, size);
    std::vector<Diagnostic> diagnostics;
    mlir::OwningOpRef<mlir::ModuleOp> module = frontend::importOnnx(m.context, m.path(), m.options, diagnostics);
    EXPECT_TRUE(module || !diagnostics.empty()) << size;
  }
  std::ofstream(m.path(), std::ios::binary) << "PK\x03\x04 not a model";
  EXPECT_FALSE(frontend::importOnnx(m.context, m.path(), m.options, m.diagnostics));
  expectMessage(m, "this is not an ONNX model");
}

TEST(Hostile, CyclesAndDoubleAssignment) {
  TestModel m;
  m.input("x", {2});
  m.nodes.add("Add", {"x", "b"}, "a");
  m.nodes.add("Neg", {"a"}, "b");
  m.nodes.add("Neg", {"x"}, "x");
  EXPECT_FALSE(m.import());
  expectMessage(m, "uses the value 'b' before it is computed");
  expectMessage(m, "computes the value 'x' a second time");
}

TEST(Hostile, RecursiveFunctions) {
  TestModel m;
  m.input("x", {2});
  for (const char *name : {"F", "G"}) {
    onnx::FunctionProto &function = *m.proto.add_functions();
    function.set_name(name);
    function.set_domain("d");
    function.add_input("i");
    function.add_output("o");
    NodeBuilder(*function.mutable_node()).addNode("d", name[0] == 'F' ? "G" : "F", {"i"}, {"o"});
  }
  m.nodes.addNode("d", "F", {"x"}, {"y"});
  EXPECT_FALSE(m.import());
  expectMessage(m, "calls itself");
}

TEST(Hostile, Extents) {
  TestModel m;
  m.input("x", {2, -1});
  m.weight("negative", {-3}, {});
  m.weight("huge", {int64_t(1) << 40, int64_t(1) << 40}, {});
  EXPECT_FALSE(m.import());
  expectMessage(m, "initializer 'negative'");
  expectMessage(m, "initializer 'huge'");
  m.graph.clear_initializer();
  EXPECT_FALSE(m.import());
  expectMessage(m, "out of range");
}

TEST(Hostile, ResultsThatExplode) {
  TestModel m;
  m.input("x", {1});
  m.nodes.list({int64_t(1) << 30, int64_t(1) << 30}, "to");
  m.nodes.add("Expand", {"x", "to"}, "y");
  m.nodes.list({-5}, "negative");
  m.nodes.add("ConstantOfShape", {"negative"}, "z");
  EXPECT_FALSE(m.import());
  EXPECT_EQ(m.diagnostics.size(), 2u) << m.messages();
}

TEST(Hostile, ExternalDataOutsideTheFolder) {
  for (const char *location : {"../secret", "/etc/passwd", "a/../../secret"}) {
    TestModel m;
    makeExternal(m.weight("w", {2}, {}), location, 0);
    EXPECT_FALSE(m.import());
    expectMessage(m, "outside the folder");
  }
  TestModel m;
  std::ofstream(m.folder / "data") << "12345678";
  makeExternal(m.weight("w", {2}, {}), "data", 4);
  EXPECT_FALSE(m.import());
  expectMessage(m, "end before byte 12");
}

//===----------------------------------------------------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------------------------------------------------===//

/// x * used + frozen, with one more weight that nothing uses.
void addWeights(TestModel &m) {
  m.input("x", {2});
  m.weight("layer.used", {2}, {1, 2});
  m.weight("layer.table", {2}, {3, 4});
  m.weight("layer.unused", {2}, {5, 6});
  m.nodes.add("Mul", {"x", "layer.used"}, "product");
  m.nodes.add("Add", {"product", "layer.table"}, "y");
  m.output("y");
}

TEST(State, UnknownRolesAreAnErrorThatListsThem) {
  TestModel m;
  addWeights(m);
  EXPECT_FALSE(m.import());
  ASSERT_EQ(m.diagnostics.size(), 1u) << m.messages();
  expectMessage(m, "layer.used [2] used by product (Mul)");
  expectMessage(m, "layer.table [2] used by y (Add)");
  EXPECT_EQ(m.messages().find("unused"), std::string::npos);
}

TEST(State, RecipeDecidesWhatIsTrained) {
  TestModel m;
  addWeights(m);
  m.options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  m.options.parameters.freeze = {"*.tab?e"};
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(stateOf(m, "layer.used").getKind(), ir::StateKind::Parameter);
  EXPECT_EQ(stateOf(m, "layer.table").getKind(), ir::StateKind::Frozen);
  EXPECT_FALSE(stateOf(m, "layer.unused"));
  EXPECT_EQ(m.run({{10, 20}})["y"], (std::vector<double>{13, 44}));

  m.options.parameters.train = {"nothing*"};
  EXPECT_FALSE(m.import());
  expectMessage(m, "no initializer matches 'nothing*'");
}

TEST(State, TiedWeightsAreOneState) {
  TestModel m;
  m.input("x", {1, 2});
  m.weight("a", {2, 3}, {1, 2, 3, 4, 5, 6});
  m.weight("b", {3, 2}, {0, 0, 0, 0, 0, 0});
  m.nodes.add("MatMul", {"x", "a"}, "h");
  m.nodes.add("MatMul", {"h", "b"}, "y");
  m.output("y");
  m.options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  m.options.ties = {{"a", "b", true}};
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_FALSE(stateOf(m, "b"));
  EXPECT_EQ(m.run({{1, 0}})["y"], (std::vector<double>{14, 32}));
  m.options.ties = {{"a", "b", false}};
  EXPECT_FALSE(m.import());
  expectMessage(m, "cannot tie 'b' to 'a'");
}

TEST(State, DrawsThatAreNotUnderstoodAreAnError) {
  TestModel m;
  m.input("x", {2});
  m.weight("w", {2}, {0, 0});
  m.nodes.add("Mul", {"x", "w"}, "y");
  m.output("y");
  onnx::TrainingInfoProto &info = *m.proto.add_training_info();
  NodeBuilder(*info.mutable_initialization()->mutable_node()).add("Bernoulli", {}, "w.initial");
  onnx::StringStringEntryProto &binding = *info.add_initialization_binding();
  binding.set_key("w");
  binding.set_value("w.initial");
  EXPECT_FALSE(m.import());
  expectMessage(m, "cannot tell how 'w' is initialised");
}

TEST(State, RawDataIsReferencedWhereItLies) {
  TestModel m;
  addWeights(m);
  const float values[2] = {1.5f, -2.5f};
  onnx::TensorProto &used = *m.graph.mutable_initializer(0);
  used.clear_float_data();
  used.set_raw_data(values, sizeof(values));
  m.options.parameters.standard = frontend::ParameterPolicy::Standard::Freeze;
  ASSERT_TRUE(m.import()) << m.messages();
  auto initial = llvm::cast<mlir::DictionaryAttr>(*stateOf(m, "layer.used").getInitial());
  EXPECT_EQ(initial.getAs<mlir::StringAttr>("file").getValue(), "");
  std::ifstream stream(m.path(), std::ios::binary);
  stream.seekg(initial.getAs<mlir::IntegerAttr>("offset").getInt());
  float stored[2];
  stream.read(reinterpret_cast<char *>(stored), sizeof(stored));
  EXPECT_EQ(stored[0], 1.5f);
  EXPECT_EQ(stored[1], -2.5f);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Presets
//===----------------------------------------------------------------------------------------------------------------===//

models::TransformerLmOptions smallPreset() {
  models::TransformerLmOptions o;
  o.decoderLayers = 2;
  o.decoderEmbedDim = 8;
  o.decoderFfnEmbedDim = 12;
  o.decoderAttentionHeads = 2;
  o.tokensPerSample = 6;
  o.moeFreq = 2;
  o.moeExpertCount = 4;
  o.vocabSize = 20;
  return o;
}

/// Imports a preset; `m.path()` names its file.
bool importPreset(TestModel &m, const models::TransformerLmOptions &o, bool touchData = false,
                  bool fineAttention = false) {
  models::ModelFile file = models::buildTransformerLm(o);
  // Under another domain the importer does not know the function and reads its body.
  if (fineAttention) {
    for (onnx::FunctionProto &function : *file.proto.mutable_functions())
      if (function.name() == "Attention")
        function.set_domain("test");
    for (onnx::NodeProto &node : *file.proto.mutable_graph()->mutable_node())
      if (node.op_type() == "Attention")
        node.set_domain("test");
  }
  Status status = models::writeModel(file, m.path());
  EXPECT_TRUE(status.has_value());
  if (touchData) {
    std::fstream data(m.path() + ".data", std::ios::in | std::ios::out | std::ios::binary);
    data.seekp(8);
    data.write("\1\2\3\4", 4);
  }
  m.options.bindings = {{"batch", 4}, {"seq", 6}};
  m.module = frontend::importOnnx(m.context, m.path(), m.options, m.diagnostics);
  return static_cast<bool>(m.module);
}

TEST(Preset, WeightsAreDrawnWhileTheFileIsZero) {
  TestModel m;
  ASSERT_TRUE(importPreset(m, smallPreset())) << m.messages();
  auto embedding = llvm::cast<mlir::DictionaryAttr>(*stateOf(m, "decoder.embed_tokens.weight").getInitial());
  EXPECT_TRUE(embedding.get("normal"));
  EXPECT_EQ(llvm::cast<mlir::IntegerAttr>(embedding.getAs<mlir::ArrayAttr>("zero_rows")[0]).getInt(), 1);
  auto norm = llvm::cast<mlir::FloatAttr>(*stateOf(m, "decoder.layer_norm.weight").getInitial());
  EXPECT_EQ(norm.getValueAsDouble(), 1.0);
  auto positions = llvm::cast<mlir::DictionaryAttr>(*stateOf(m, "decoder.embed_positions.weights").getInitial());
  EXPECT_TRUE(positions.get("file"));
  EXPECT_EQ(stateOf(m, "decoder.embed_positions.weights").getKind(), ir::StateKind::Frozen);
}

TEST(Preset, StoredWeightsStandIfAnyIsNotZero) {
  TestModel m;
  ASSERT_TRUE(importPreset(m, smallPreset(), /*touchData=*/true)) << m.messages();
  auto initial = llvm::cast<mlir::DictionaryAttr>(*stateOf(m, "decoder.layer_norm.weight").getInitial());
  EXPECT_TRUE(initial.get("file"));
  EXPECT_EQ(stateOf(m, "decoder.layer_norm.weight").getKind(), ir::StateKind::Parameter);
}

TEST(Preset, DropoutAndCapacityDifferInEvaluation) {
  TestModel m;
  models::TransformerLmOptions o = smallPreset();
  o.moeEvalCapacityTokenFraction = 0.3;
  m.options.evalBindings = {{"batch", 2}};
  m.options.routingGroups = 2;
  ASSERT_TRUE(importPreset(m, o)) << m.messages();
  EXPECT_GT(m.count<ir::DropoutOp>(), 0);
  EXPECT_EQ(m.count<ir::DropoutOp>("eval"), 0);
  auto capacity = [&](const char *program) {
    int64_t result = 0;
    m.function(program).walk([&](ir::RouteOp op) { result = op.getCapacity(); });
    return result;
  };
  // Training: 2 ceil(12 / 4); evaluation: ceil(0.3 * 6).
  EXPECT_EQ(capacity("forward"), 6);
  EXPECT_EQ(capacity("eval"), 2);
  m.function("forward").walk([&](ir::AttentionOp op) { EXPECT_GT(op.getRate().convertToDouble(), 0.0); });
  EXPECT_EQ(m.count<ir::AttentionOp>(), 2);
  m.function("eval").walk([&](ir::AttentionOp op) { EXPECT_EQ(op.getRate().convertToDouble(), 0.0); });
}

TEST(Preset, EverySiteOfADrawIsItsOwn) {
  TestModel m;
  models::TransformerLmOptions o = smallPreset();
  o.decoderLayers = 4;
  o.moeSecondExpertPolicy = "sampling";
  o.activationDropout = 0.1;
  ASSERT_TRUE(importPreset(m, o)) << m.messages();
  std::vector<int64_t> sites;
  m.function().walk([&](mlir::Operation *op) {
    if (auto site = op->getAttrOfType<mlir::IntegerAttr>("site"))
      sites.push_back(site.getInt());
  });
  size_t all = sites.size();
  std::sort(sites.begin(), sites.end());
  sites.erase(std::unique(sites.begin(), sites.end()), sites.end());
  EXPECT_EQ(sites.size(), all);
  EXPECT_GT(all, 10u);
}

TEST(Preset, CoarseAttentionEqualsItsBody) {
  models::TransformerLmOptions o = smallPreset();
  o.dropout = o.attentionDropout = 0.0;
  o.moeSecondExpertPolicy = "all";
  std::vector<double> losses;
  for (bool fine : {false, true}) {
    TestModel m;
    ASSERT_TRUE(importPreset(m, o, /*touchData=*/false, fine)) << m.messages();
    EXPECT_EQ(m.count<ir::AttentionOp>(), fine ? 0 : 2);
    frontend::useExactConstants(*m.module);
    ir::InterpreterState state(*m.module);
    int count = 0;
    m.module->walk([&](ir::StateOp op) {
      if (op.getKind() == ir::StateKind::Control)
        return;
      ir::HostTensor value(op.getTensorType());
      for (double &element : value.floats)
        element = 0.5 * std::sin(static_cast<double>(++count));
      state.write(op.getSymName(), value);
    });
    std::vector<ir::HostTensor> inputs(
        2, ir::HostTensor(llvm::cast<mlir::RankedTensorType>(m.function().getArgumentTypes()[0])));
    for (int64_t i = 0; i < 24; ++i) {
      // Some padding, also in front, where a query sees no key at all.
      inputs[0].ints[i] = i % 5 == 0 ? 1 : 2 + i * 7 % 18;
      inputs[1].ints[i] = 2 + i * 5 % 18;
    }
    auto results = ir::interpret(*m.module, "forward", inputs, state);
    ASSERT_TRUE(llvm::succeeded(results));
    losses.push_back((*results)[0].at(0));
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-12);
}

TEST(Preset, GroupsMustDivideTheBatch) {
  TestModel m;
  m.options.routingGroups = 3;
  EXPECT_FALSE(importPreset(m, smallPreset()));
  expectMessage(m, "does not divide into 3 routing groups");
}

TEST(Preset, ModuleSaysWhatTheDataMustBe) {
  TestModel m;
  ASSERT_TRUE(importPreset(m, smallPreset())) << m.messages();
  auto data = (*m.module)->getAttrOfType<mlir::DictionaryAttr>("moe.data");
  EXPECT_EQ(data.getAs<mlir::IntegerAttr>("pad_id").getInt(), 1);
  auto inputs = data.getAs<mlir::DictionaryAttr>("inputs");
  auto tokens = inputs.getAs<mlir::DictionaryAttr>("input_ids"), labels = inputs.getAs<mlir::DictionaryAttr>("labels");
  EXPECT_EQ(tokens.getAs<mlir::IntegerAttr>("vocabulary").getInt(), 20);
  EXPECT_EQ(labels.getAs<mlir::IntegerAttr>("vocabulary").getInt(), 20);
  EXPECT_TRUE(labels.getAs<mlir::BoolAttr>("labels").getValue());
  EXPECT_FALSE(tokens.getAs<mlir::BoolAttr>("labels").getValue());
  auto model = (*m.module)->getAttrOfType<mlir::DictionaryAttr>("moe.model");
  EXPECT_EQ(model.getAs<mlir::IntegerAttr>("bytes").getInt(),
            static_cast<int64_t>(std::filesystem::file_size(m.path())));
}

} // namespace
