//===- TieTest.cpp - Weights that are tied, and warnings on those that may be -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "TestModel.h"
#include "frontend/models/TransformerLm.h"
#include "frontend/recipe/Recipe.h"
#include "ir/reference/Widen.h"
#include "passes/Pipeline.h"
#include <cmath>
#include <fstream>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

using Values = std::vector<float>;

/// Table [4, 3] of distinct values, and its transpose [3, 4].
const Values kTable = {0.5f, -1.0f, 2.0f, 0.25f, 1.5f, -0.75f, 3.0f, -2.0f, 1.25f, -0.5f, 0.125f, 1.0f};

Values transpose(const Values &values, size_t rows, size_t columns) {
  Values result(values.size());
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < columns; ++j)
      result[j * rows + i] = values[i * columns + j];
  return result;
}

/// loss = sum of (table[tokens] head)^2, the least model with an embedding and a projection.
class Untied : public TestModel {
public:
  explicit Untied(const Values &head) {
    input("tokens", {3}, onnx::TensorProto::INT64);
    weight("table", {4, 3}, kTable);
    weight("head", {3, 4}, head);
    nodes.add("Gather", {"table", "tokens"}, "h");
    nodes.add("MatMul", {"h", "head"}, "y");
    nodes.add("Mul", {"y", "y"}, "square");
    nodes.add("ReduceSum", {"square"}, "loss");
    graph.mutable_node()->rbegin()->add_attribute()->CopyFrom(integer("keepdims", 0));
    output("loss");
    options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  }

  static onnx::AttributeProto integer(const char *name, int64_t value) {
    onnx::AttributeProto attribute;
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(value);
    return attribute;
  }

  /// The gradients that one micro-step accumulates, by parameter, in float64.
  std::map<std::string, std::vector<double>> gradients(const std::vector<int64_t> &tokens) {
    std::map<std::string, std::vector<double>> result;
    EXPECT_TRUE(import()) << messages();
    if (!module)
      return result;
    frontend::setTraining(*module, {});
    ir::PipelineOptions pipeline;
    pipeline.last = ir::Phase::Differentiate;
    EXPECT_TRUE(llvm::succeeded(ir::widenToFloat64(*module)) && llvm::succeeded(ir::runPhases(*module, pipeline)));
    ir::InterpreterState state(*module);
    auto step = module->lookupSymbol<mlir::func::FuncOp>("micro_step");
    std::vector<ir::HostTensor> inputs(1,
                                       ir::HostTensor(llvm::cast<mlir::RankedTensorType>(step.getArgumentTypes()[0])));
    inputs[0].ints = tokens;
    EXPECT_TRUE(llvm::succeeded(ir::interpret(*module, "micro_step", inputs, state)));
    module->walk([&](ir::StateOp op) {
      if (op.getKind() != ir::StateKind::Gradient || !op.getOf())
        return;
      ir::HostTensor gradient = state.read(op.getSymName());
      for (int64_t i = 0; i < gradient.size(); ++i)
        result[op.getOf()->str()].push_back(gradient.at(i));
    });
    return result;
  }
};

bool says(const TestModel &m, const std::string &part) {
  return m.messages().find(part) != std::string::npos;
}

//===----------------------------------------------------------------------------------------------------------------===//
// Ties of the recipe
//===----------------------------------------------------------------------------------------------------------------===//

TEST(Ties, GradientIsTheSumOverTheUses) {
  // What both weights get when they are apart, by hand: with h = table[tokens], y = h head and dy = 2 y, the head gets
  // h^T dy, and the table's row t the sum of dy head^T over the places where the token is t.
  const std::vector<int64_t> tokens = {2, 0, 2};
  std::vector<double> table(12), head(12);
  for (int64_t token : tokens)
    for (size_t column = 0; column < 4; ++column) {
      const float *row = &kTable[static_cast<size_t>(token) * 3], *other = &kTable[column * 3];
      double dy = 0.0;
      for (size_t i = 0; i < 3; ++i)
        dy += 2.0 * row[i] * other[i];
      for (size_t i = 0; i < 3; ++i) {
        table[static_cast<size_t>(token) * 3 + i] += dy * other[i];
        head[i * 4 + column] += dy * row[i];
      }
    }
  Untied apart(transpose(kTable, 4, 3));
  auto separate = apart.gradients(tokens);
  ASSERT_EQ(separate.size(), 2u);
  // The stored values of the tied tensor do not matter.
  Untied tied(Values(12, 7.0f));
  tied.options.ties = {{"table", "head", true}};
  auto together = tied.gradients(tokens);
  ASSERT_EQ(together.size(), 1u);
  for (size_t row = 0; row < 4; ++row)
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(separate["table"][row * 3 + i], table[row * 3 + i], 1e-12);
      EXPECT_NEAR(separate["head"][i * 4 + row], head[i * 4 + row], 1e-12);
      EXPECT_NEAR(together["table"][row * 3 + i], table[row * 3 + i] + head[i * 4 + row], 1e-12);
    }
}

TEST(Ties, MismatchesAreRefusedWithShapes) {
  Untied m(transpose(kTable, 4, 3));
  m.options.ties = {{"table", "head", false}};
  EXPECT_FALSE(m.import());
  EXPECT_EQ(m.diagnostics.size(), 1u) << m.messages();
  EXPECT_TRUE(says(m, "cannot tie 'head' to 'table'")) << m.messages();
  EXPECT_TRUE(says(m, "'table' has type FLOAT and shape [4, 3], 'head' has type FLOAT and shape [3, 4]"));

  // Only matrices have a transpose.
  TestModel cube;
  cube.input("x", {2});
  cube.weight("a", {1, 1, 2}, {1, 2});
  cube.weight("b", {1, 1, 2}, {3, 4});
  cube.nodes.add("Mul", {"x", "a"}, "p");
  cube.nodes.add("Mul", {"p", "b"}, "y");
  cube.output("y");
  cube.options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  cube.options.ties = {{"a", "b", true}};
  EXPECT_FALSE(cube.import());
  EXPECT_TRUE(says(cube, "cannot tie 'b' to 'a' transposed")) << cube.messages();
}

TEST(Ties, UnknownNamesAreErrorsWithTheNearest) {
  Untied m(transpose(kTable, 4, 3));
  m.options.ties = {{"tabel", "haed", true}};
  EXPECT_FALSE(m.import());
  EXPECT_EQ(m.diagnostics.size(), 2u) << m.messages();
  EXPECT_TRUE(says(m, "no initializer 'tabel'") && says(m, "did you mean 'table'?")) << m.messages();
  EXPECT_TRUE(says(m, "no initializer 'haed'") && says(m, "did you mean 'head'?")) << m.messages();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Warnings
//===----------------------------------------------------------------------------------------------------------------===//

TEST(TieWarnings, TransposedPairsAndTheirRemedy) {
  Untied m(transpose(kTable, 4, 3));
  ASSERT_TRUE(m.import()) << m.messages();
  ASSERT_EQ(m.diagnostics.size(), 1u) << m.messages();
  EXPECT_EQ(m.messages().find("warning: "), 0u);
  EXPECT_EQ(m.diagnostics[0].code, ExitCode::Success);
  EXPECT_TRUE(says(m, "table and the transpose of head")) << m.messages();
  // What the message proposes is valid and silences it.
  const std::string &remedy = m.diagnostics[0].remedy;
  std::vector<Diagnostic> errors;
  auto recipe = frontend::parseRecipe(remedy.substr(remedy.rfind("tie: ")), "remedy", {}, errors);
  ASSERT_TRUE(recipe) << remedy;
  m.options.ties = recipe->tie;
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_TRUE(m.diagnostics.empty()) << m.messages();
}

TEST(TieWarnings, OneElementDecides) {
  for (size_t changed = 0; changed < 12; ++changed) {
    Values head = transpose(kTable, 4, 3);
    head[changed] += 0.5f;
    Untied m(head);
    ASSERT_TRUE(m.import()) << m.messages();
    EXPECT_TRUE(m.diagnostics.empty()) << changed << m.messages();
  }
}

TEST(TieWarnings, EqualPairsByShapeInAllFormsOfStorage) {
  // e lies outside the file; b and e equal a; c has a's elements in another shape; d is one number throughout.
  TestModel m;
  m.input("x", {2, 2, 3});
  const Values values = {1, 2, 3, 4, 5, 6};
  m.weight("a", {2, 3}, values);
  m.weight("b", {2, 3}, {}).set_raw_data(values.data(), values.size() * sizeof(float));
  m.weight("c", {1, 2, 3}, values);
  m.weight("d", {2, 3}, Values(6, 1.0f));
  m.weight("ones", {2, 3}, Values(6, 1.0f));
  onnx::TensorProto &e = m.weight("e", {2, 3}, {});
  e.set_data_location(onnx::TensorProto::EXTERNAL);
  for (auto [key, value] : {std::pair{"location", "w.bin"}, {"offset", "8"}}) {
    onnx::StringStringEntryProto &entry = *e.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  }
  std::ofstream stream(m.folder / "w.bin", std::ios::binary);
  stream.write("otherwis", 8);
  stream.write(reinterpret_cast<const char *>(values.data()), 24);
  stream.close();
  std::string last = "x";
  for (const char *name : {"a", "b", "c", "d", "ones", "e"})
    last = m.nodes.add("Add", {last, name}, std::string("with.") + name);
  m.output(last);
  m.options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  ASSERT_TRUE(m.import()) << m.messages();
  ASSERT_EQ(m.diagnostics.size(), 1u) << m.messages();
  EXPECT_TRUE(says(m, R"(tie: [["a", "b"], ["a", "e"]])")) << m.messages();
  // What is not trained needs no tie.
  m.options.parameters.freeze = {"b", "e"};
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_TRUE(m.diagnostics.empty()) << m.messages();
}

TEST(TieWarnings, LargeTensorsAreComparedToTheEnd) {
  // Above one piece of the comparison; the first and the last element alone say nothing.
  constexpr int64_t kRows = 600, kColumns = 500;
  Values values;
  for (int64_t i = 0; i < kRows * kColumns; ++i)
    values.push_back(std::sin(static_cast<float>(i)));
  for (bool equal : {true, false}) {
    TestModel m;
    m.input("x", {1, kRows});
    auto raw = [&](const char *name, const std::vector<int64_t> &shape, const Values &data) {
      m.weight(name, shape, {}).set_raw_data(data.data(), data.size() * sizeof(float));
    };
    raw("a", {kRows, kColumns}, values);
    Values other = transpose(values, kRows, kColumns), third = values;
    if (!equal)
      other[other.size() - 2] = third[third.size() - 2] = 2.0f;
    raw("b", {kColumns, kRows}, other);
    raw("c", {kRows, kColumns}, third);
    m.nodes.add("MatMul", {"x", "a"}, "p");
    m.nodes.add("MatMul", {"p", "b"}, "q");
    m.nodes.add("MatMul", {"q", "c"}, "y");
    m.output("y");
    m.options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
    ASSERT_TRUE(m.import()) << m.messages();
    EXPECT_EQ(says(m, R"(tie: [["a", "b^T"], ["a", "c"]])"), equal) << m.messages();
    EXPECT_EQ(m.diagnostics.empty(), !equal) << m.messages();
  }
}

TEST(TieWarnings, SharedUsesAreNamed) {
  TestModel m;
  m.input("x", {2, 2});
  m.weight("norm", {2}, {1, 2});
  m.weight("square", {2, 2}, {1, 2, 3, 4});
  m.weight("once", {2}, {3, 5});
  m.nodes.add("Mul", {"x", "norm"}, "first");
  m.nodes.add("Mul", {"first", "norm"}, "second");
  // Exporters share the transpose of a shared weight too.
  m.nodes.add("Transpose", {"square"}, "turned");
  m.nodes.add("MatMul", {"second", "turned"}, "third");
  m.nodes.add("MatMul", {"third", "turned"}, "fourth");
  m.nodes.add("Mul", {"fourth", "once"}, "fifth");
  m.nodes.add("Mul", {"fifth", "fifth"}, "y");
  m.output("y");
  m.options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  ASSERT_TRUE(m.import()) << m.messages();
  ASSERT_EQ(m.diagnostics.size(), 1u) << m.messages();
  EXPECT_EQ(m.diagnostics[0].code, ExitCode::Success);
  EXPECT_TRUE(says(m, "norm used by first (Mul), second (Mul)")) << m.messages();
  EXPECT_TRUE(says(m, "square used by third (MatMul), fourth (MatMul)")) << m.messages();
  EXPECT_FALSE(says(m, "once"));
}

TEST(TieWarnings, PresetsShareWhatTheyWereToldTo) {
  // A tied embedding in a file of zeros, which are to be drawn and equal nothing.
  models::TransformerLmOptions o;
  o.decoderLayers = 1;
  o.decoderEmbedDim = 8;
  o.decoderFfnEmbedDim = 8;
  o.decoderAttentionHeads = 2;
  o.tokensPerSample = 6;
  o.vocabSize = 20;
  o.shareDecoderInputOutputEmbed = true;
  TestModel m;
  models::ModelFile file = models::buildTransformerLm(o);
  ASSERT_TRUE(models::writeModel(file, m.path()).has_value());
  m.options.bindings = {{"batch", 2}, {"seq", 6}};
  m.module = frontend::importOnnx(m.context, m.path(), m.options, m.diagnostics);
  ASSERT_TRUE(m.module) << m.messages();
  EXPECT_TRUE(m.diagnostics.empty()) << m.messages();
}

} // namespace
