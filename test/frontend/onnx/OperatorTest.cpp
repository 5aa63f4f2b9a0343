//===- OperatorTest.cpp - Translations of operators against plain loops -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "TestModel.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

constexpr int kInt64 = onnx::TensorProto::INT64;

void expectNear(const std::vector<double> &got, const std::vector<double> &want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], want[i], 1e-12) << "element " << i;
}

TEST(Operators, BroadcastBothOperands) {
  TestModel m;
  m.input("a", {2, 3, 1});
  m.input("b", {4});
  m.nodes.add("Sub", {"a", "b"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> a = ramp(6), b = ramp(4), want;
  for (int i = 0; i < 6; ++i)
    for (int j = 0; j < 4; ++j)
      want.push_back(a[i] - b[j]);
  expectNear(m.run({a, b})["y"], want);
}

TEST(Operators, ShapesThatDoNotBroadcastAreAGap) {
  TestModel m;
  m.input("a", {2, 3});
  m.input("b", {4});
  m.nodes.add("Add", {"a", "b"}, "y");
  m.output("y");
  EXPECT_FALSE(m.import());
  EXPECT_NE(m.messages().find("do not broadcast"), std::string::npos) << m.messages();
}

// A size of blocks is refused before extents are multiplied with it.
TEST(Operators, BlocksOfPixelsThatDoNotFitAreAGap) {
  for (int64_t block : {int64_t(0), int64_t(-2), int64_t(3), int64_t(1) << 40}) {
    for (const char *op : {"DepthToSpace", "SpaceToDepth"}) {
      TestModel m;
      m.input("x", {1, 8, 4, 4});
      m.nodes.add(op, {"x"}, "y", {{"blocksize", block}});
      m.output("y");
      EXPECT_FALSE(m.import()) << op << block;
      EXPECT_NE(m.messages().find("blocks"), std::string::npos) << m.messages();
    }
  }
}

TEST(Operators, ElementTypesThatDifferAreAGap) {
  TestModel m;
  m.input("a", {2});
  m.input("b", {2}, kInt64);
  m.nodes.add("Add", {"a", "b"}, "y");
  m.output("y");
  EXPECT_FALSE(m.import());
  EXPECT_NE(m.messages().find("cannot import node 'y': Add (opset 20)"), std::string::npos) << m.messages();
}

TEST(Operators, ShapeArithmeticFoldsAway) {
  TestModel m;
  m.input("x", {2, 3, 4});
  m.nodes.add("Shape", {"x"}, "shape");
  m.nodes.scalar(int64_t(2), "two");
  m.nodes.scalar(int64_t(0), "zero");
  m.nodes.add("Gather", {"shape", "two"}, "width", {{"axis", int64_t(0)}});
  m.nodes.add("Mul", {"width", "two"}, "double");
  m.nodes.list({0}, "axis");
  m.nodes.add("Unsqueeze", {"double", "axis"}, "double_1");
  m.nodes.list({-1}, "rest");
  m.nodes.add("Concat", {"rest", "double_1"}, "to", {{"axis", int64_t(0)}});
  m.nodes.add("Reshape", {"x", "to"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.resultType(0).getShape(), llvm::ArrayRef<int64_t>({3, 8}));
  // The reshape and the return are all that is left.
  EXPECT_EQ(m.function().getBody().front().getOperations().size(), 2u);
}

TEST(Operators, CapacityArithmeticThroughFloatsFolds) {
  TestModel m;
  m.input("x", {5});
  m.nodes.add("Shape", {"x"}, "n");
  m.nodes.add("Cast", {"n"}, "n_f", {{"to", int64_t(onnx::TensorProto::FLOAT)}});
  m.nodes.scalar(0.7f, "factor");
  m.nodes.add("Mul", {"n_f", "factor"}, "scaled");
  m.nodes.add("Cast", {"scaled"}, "count", {{"to", int64_t(kInt64)}});
  m.nodes.add("Expand", {"factor", "count"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.resultType(0).getShape(), llvm::ArrayRef<int64_t>({3}));
}

TEST(Operators, MatMulTakesTransposedWeightAsItIs) {
  TestModel m;
  m.input("x", {2, 3, 4});
  m.input("w", {5, 4});
  m.nodes.add("Transpose", {"w"}, "w_t", {{"perm", std::vector<int64_t>{1, 0}}});
  m.nodes.add("MatMul", {"x", "w_t"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.count<ir::TransposeOp>(), 0);
  EXPECT_EQ(m.count<ir::DotOp>(), 1);
  std::vector<double> x = ramp(24), w = ramp(20), want;
  for (int r = 0; r < 6; ++r)
    for (int n = 0; n < 5; ++n) {
      double sum = 0;
      for (int k = 0; k < 4; ++k)
        sum += x[r * 4 + k] * w[n * 4 + k];
      want.push_back(sum);
    }
  expectNear(m.run({x, w})["y"], want);
}

TEST(Operators, MatMulOfTransposedBatches) {
  // [B,H,T,D] x [B,H,D,S], both seen through transposes from [B,T,H,D], as attention is written.
  TestModel m;
  const int B = 2, T = 3, H = 2, D = 4;
  m.input("q", {B, T, H, D});
  m.input("k", {B, T, H, D});
  m.nodes.add("Transpose", {"q"}, "qh", {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  m.nodes.add("Transpose", {"k"}, "kh", {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  m.nodes.add("MatMul", {"qh", "kh"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> q = ramp(B * T * H * D), k = ramp(B * T * H * D), want;
  std::reverse(k.begin(), k.end());
  for (int b = 0; b < B; ++b)
    for (int h = 0; h < H; ++h)
      for (int i = 0; i < T; ++i)
        for (int j = 0; j < T; ++j) {
          double sum = 0;
          for (int d = 0; d < D; ++d)
            sum += q[((b * T + i) * H + h) * D + d] * k[((b * T + j) * H + h) * D + d];
          want.push_back(sum);
        }
  expectNear(m.run({q, k})["y"], want);
}

TEST(Operators, MatMulKeepsTheOrderOfTransposedRows) {
  TestModel m;
  m.input("x", {2, 3, 4});
  m.input("w", {4, 2});
  m.nodes.add("Transpose", {"x"}, "swapped", {{"perm", std::vector<int64_t>{1, 0, 2}}});
  m.nodes.add("MatMul", {"swapped", "w"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(24), w = ramp(8), want;
  for (int i = 0; i < 3; ++i)
    for (int b = 0; b < 2; ++b)
      for (int n = 0; n < 2; ++n) {
        double sum = 0;
        for (int k = 0; k < 4; ++k)
          sum += x[(b * 3 + i) * 4 + k] * w[k * 2 + n];
        want.push_back(sum);
      }
  expectNear(m.run({x, w})["y"], want);
}

TEST(Operators, ExactDoublesOfRoundedAttributes) {
  TestModel m;
  m.input("x", {2});
  m.input("scale", {2});
  m.nodes.add("LayerNormalization", {"x", "scale"}, "normed", {{"epsilon", 0.3f}});
  m.nodes.add("LayerNormalization", {"x", "scale"}, "decimal", {{"epsilon", 0.3f}});
  m.nodes.scalar(0.7f, "factor");
  m.nodes.add("Mul", {"normed", "factor"}, "y");
  m.output("y");
  m.output("decimal");
  const double epsilon = 0.30000000001, factor = 0.70000000001;
  auto annotate = [&](int node, const char *key, const char *value) {
    onnx::StringStringEntryProto &entry = *m.graph.mutable_node(node)->add_metadata_props();
    entry.set_key(std::string("ai.moec.f64.") + key);
    entry.set_value(value);
  };
  annotate(0, "epsilon", "0.30000000001");
  annotate(2, "value_float", "0.70000000001");
  ASSERT_TRUE(m.import()) << m.messages();
  frontend::useExactConstants(*m.module);
  auto results = m.run({{1, 3}, {1, 1}});
  double y = factor / std::sqrt(1 + epsilon), decimal = 1 / std::sqrt(1 + 0.3);
  expectNear(results["y"], {-y, y});
  expectNear(results["decimal"], {-decimal, decimal});
}

TEST(Operators, MatMulRepeatsBatches) {
  TestModel m;
  m.input("a", {3, 2});
  m.input("b", {4, 2, 5});
  m.input("v", {2});
  m.nodes.add("MatMul", {"a", "b"}, "y");
  m.nodes.add("MatMul", {"a", "v"}, "z");
  m.output("y");
  m.output("z");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> a = ramp(6), b = ramp(40), v = ramp(2), y, z;
  for (int batch = 0; batch < 4; ++batch)
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 5; ++j)
        y.push_back(a[i * 2] * b[batch * 10 + j] + a[i * 2 + 1] * b[batch * 10 + 5 + j]);
  for (int i = 0; i < 3; ++i)
    z.push_back(a[i * 2] * v[0] + a[i * 2 + 1] * v[1]);
  auto results = m.run({a, b, v});
  expectNear(results["y"], y);
  expectNear(results["z"], z);
}

TEST(Operators, GemmWithFactors) {
  TestModel m;
  m.input("a", {2, 3});
  m.input("b", {4, 2});
  m.input("c", {4});
  m.nodes.add("Gemm", {"a", "b", "c"}, "y",
              {{"transA", int64_t(1)}, {"transB", int64_t(1)}, {"alpha", 0.5f}, {"beta", 2.0f}});
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> a = ramp(6), b = ramp(8), c = ramp(4), want;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j)
      want.push_back(0.5 * (a[i] * b[j * 2] + a[3 + i] * b[j * 2 + 1]) + 2.0 * c[j]);
  expectNear(m.run({a, b, c})["y"], want);
}

TEST(Operators, GatherOnAnInnerAxisWithNegativeIndices) {
  TestModel m;
  m.input("x", {2, 3, 2});
  m.input("raw", {2}, kInt64);
  m.nodes.add("Neg", {"x"}, "unused");
  m.nodes.list({0}, "zero");
  m.nodes.add("Add", {"raw", "zero"}, "index");
  m.nodes.add("Gather", {"x", "index"}, "y", {{"axis", int64_t(1)}});
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(12), want;
  for (int a = 0; a < 2; ++a)
    for (int i : {2, 0})
      for (int b = 0; b < 2; ++b)
        want.push_back(x[(a * 3 + i) * 2 + b]);
  expectNear(m.run({x, {-1, 0}})["y"], want);
}

TEST(Operators, SliceClampsAndSplitsAddUp) {
  TestModel m;
  m.input("x", {7});
  m.nodes.list({-6}, "start");
  m.nodes.list({100}, "end");
  m.nodes.list({0}, "axis");
  m.nodes.list({2}, "step");
  m.nodes.add("Slice", {"x", "start", "end", "axis", "step"}, "y");
  m.nodes.list({3, 4}, "sizes");
  m.nodes.addNode("", "Split", {"x", "sizes"}, {"first", "second"}, {{"axis", int64_t(0)}});
  m.output("y");
  m.output("first");
  m.output("second");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(7);
  auto results = m.run({x});
  expectNear(results["y"], {x[1], x[3], x[5]});
  expectNear(results["first"], {x[0], x[1], x[2]});
  expectNear(results["second"], {x[3], x[4], x[5], x[6]});
}

TEST(Operators, SoftmaxOnAnInnerAxis) {
  TestModel m;
  m.input("x", {2, 3, 2});
  m.nodes.add("Softmax", {"x"}, "y", {{"axis", int64_t(1)}});
  m.nodes.add("LogSoftmax", {"x"}, "z", {{"axis", int64_t(1)}});
  m.output("y");
  m.output("z");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(12), y(12), z(12);
  for (int a = 0; a < 2; ++a)
    for (int b = 0; b < 2; ++b) {
      double sum = 0;
      for (int i = 0; i < 3; ++i)
        sum += std::exp(x[(a * 3 + i) * 2 + b]);
      for (int i = 0; i < 3; ++i) {
        int at = (a * 3 + i) * 2 + b;
        y[at] = std::exp(x[at]) / sum;
        z[at] = x[at] - std::log(sum);
      }
    }
  auto results = m.run({x});
  expectNear(results["y"], y);
  expectNear(results["z"], z);
}

TEST(Operators, SoftmaxBeforeOpset13Flattens) {
  TestModel m(12);
  m.input("x", {2, 2, 3});
  m.nodes.add("Softmax", {"x"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(12), want;
  for (int r = 0; r < 2; ++r) {
    double sum = 0;
    for (int i = 0; i < 6; ++i)
      sum += std::exp(x[r * 6 + i]);
    for (int i = 0; i < 6; ++i)
      want.push_back(std::exp(x[r * 6 + i]) / sum);
  }
  expectNear(m.run({x})["y"], want);
}

TEST(Operators, LayerNormalizationOverTwoDimensions) {
  TestModel m;
  m.input("x", {2, 2, 3});
  m.input("scale", {2, 3});
  m.nodes.add("LayerNormalization", {"x", "scale"}, "y", {{"axis", int64_t(1)}, {"epsilon", 0.01f}});
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(12), scale = ramp(6), want;
  for (int r = 0; r < 2; ++r) {
    double mean = 0, variance = 0;
    for (int i = 0; i < 6; ++i)
      mean += x[r * 6 + i] / 6;
    for (int i = 0; i < 6; ++i)
      variance += (x[r * 6 + i] - mean) * (x[r * 6 + i] - mean) / 6;
    for (int i = 0; i < 6; ++i)
      want.push_back((x[r * 6 + i] - mean) / std::sqrt(variance + 0.01) * scale[i]);
  }
  expectNear(m.run({x, scale})["y"], want);
}

TEST(Operators, CrossEntropyAveragesCountedLabels) {
  TestModel m;
  m.input("x", {2, 3, 2});
  m.input("labels", {2, 2}, kInt64);
  m.nodes.add("SoftmaxCrossEntropyLoss", {"x", "labels"}, "y",
              {{"reduction", std::string("mean")}, {"ignore_index", int64_t(2)}});
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(12), labels = {0, 2, 1, 0};
  double sum = 0;
  for (int n = 0; n < 2; ++n)
    for (int d = 0; d < 2; ++d) {
      int label = static_cast<int>(labels[n * 2 + d]);
      if (label == 2)
        continue;
      double total = 0;
      for (int c = 0; c < 3; ++c)
        total += std::exp(x[(n * 3 + c) * 2 + d]);
      sum += std::log(total) - x[(n * 3 + label) * 2 + d];
    }
  expectNear(m.run({x, labels})["y"], {sum / 3});
}

TEST(Operators, RangeTriluAndWhere) {
  TestModel m;
  m.input("x", {3, 3});
  m.nodes.scalar(int64_t(1), "one");
  m.nodes.add("Trilu", {"x", "one"}, "upper");
  m.nodes.scalar(0.5f, "start");
  m.nodes.scalar(2.0f, "limit");
  m.nodes.scalar(0.5f, "step");
  m.nodes.add("Range", {"start", "limit", "step"}, "range");
  m.nodes.add("Greater", {"x", "range"}, "above");
  m.nodes.add("Where", {"above", "x", "range"}, "y");
  m.output("upper");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = {2, -1, 3, 0, 1.25, -2, 7, 8, 1}, upper = {0, -1, 3, 0, 0, -2, 0, 0, 0};
  auto results = m.run({x});
  expectNear(results["upper"], upper);
  expectNear(results["y"], {2, 1, 3, 0.5, 1.25, 1.5, 7, 8, 1.5});
}

TEST(Operators, ReductionsKeepOrDropDimensions) {
  TestModel m;
  m.input("x", {2, 3});
  m.nodes.list({-1}, "axis");
  m.nodes.add("ReduceMean", {"x", "axis"}, "mean", {{"keepdims", int64_t(1)}});
  m.nodes.add("ReduceMax", {"x"}, "max", {{"keepdims", int64_t(0)}});
  m.output("mean");
  m.output("max");
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.resultType(0).getShape(), llvm::ArrayRef<int64_t>({2, 1}));
  EXPECT_EQ(m.resultType(1).getRank(), 0);
  auto results = m.run({{1, 2, 6, -4, 0, 1}});
  expectNear(results["mean"], {3, -1});
  expectNear(results["max"], {6});
}

TEST(Operators, EmbeddingOfTorchKeepsItsPaddingFree) {
  // Row 1 is read, but only the embedding of the second form gives it a gradient.
  for (bool padded : {true, false}) {
    TestModel m;
    m.input("ids", {3}, kInt64);
    m.input("table", {4, 2});
    m.nodes.add("Gather", {"table", "ids"}, "y");
    onnx::StringStringEntryProto &entry = *m.graph.mutable_node(0)->add_metadata_props();
    entry.set_key("pkg.torch.onnx.fx_node");
    entry.set_value("%e : [num_users=1] = call_function[target=torch.ops.aten.embedding.default](args = (%w, %ids" +
                    std::string(padded ? ", 1" : "") + "), kwargs = {})");
    m.output("y");
    ASSERT_TRUE(m.import()) << m.messages();
    EXPECT_EQ(m.count<ir::ScaleGradientOp>(), padded ? 1 : 0);
    std::vector<double> table = ramp(8);
    expectNear(m.run({{1, 3, 0}, table})["y"], {table[2], table[3], table[6], table[7], table[0], table[1]});
  }
}

TEST(Operators, GatherNDOverTwoBatchDimensions) {
  // y[a, b] = x[a, b, i[a, b]]; the standard's own cases have one batch dimension.
  TestModel m;
  m.input("x", {2, 3, 4});
  m.input("i", {2, 3, 1}, kInt64);
  m.nodes.add("GatherND", {"x", "i"}, "y", {{"batch_dims", int64_t(2)}});
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  std::vector<double> x = ramp(24), i = {3, 0, 1, 2, 2, 3}, want;
  for (int row = 0; row < 6; ++row)
    want.push_back(x[row * 4 + static_cast<int>(i[row])]);
  expectNear(m.run({x, i})["y"], want);
}

TEST(Operators, BranchesSeeWhatSurroundsThem) {
  // The branch that is taken multiplies, the other one is never looked at: its operator does not exist.
  TestModel m;
  m.input("x", {3});
  m.nodes.scalar(2.0f, "two");
  onnx::NodeProto &condition = *m.graph.add_node();
  condition.set_op_type("Greater");
  condition.add_input("two");
  condition.add_input("zero");
  condition.add_output("positive");
  m.nodes.scalar(0.0f, "zero");
  m.graph.mutable_node()->SwapElements(m.graph.node_size() - 2, m.graph.node_size() - 1);
  onnx::NodeProto &node = *m.graph.add_node();
  node.set_op_type("If");
  node.add_input("positive");
  node.add_output("y");
  for (auto [name, op] : {std::pair("then_branch", "Mul"), std::pair("else_branch", "Nonsense")}) {
    onnx::AttributeProto &attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(onnx::AttributeProto::GRAPH);
    onnx::NodeProto &inner = *attribute.mutable_g()->add_node();
    inner.set_op_type(op);
    inner.add_input("x");
    inner.add_input("two");
    inner.add_output(std::string("result_of_") + name);
    attribute.mutable_g()->add_output()->set_name(std::string("result_of_") + name);
  }
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  expectNear(m.run({{1, -2, 3}})["y"], {2, -4, 6});
}

} // namespace
