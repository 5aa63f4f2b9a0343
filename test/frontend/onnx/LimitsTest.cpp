//===- LimitsTest.cpp - Small files that ask for much work or memory ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "TestModel.h"
#include <fstream>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

bool says(const TestModel &m, const std::string &part) {
  return m.messages().find(part) != std::string::npos;
}

/// A field of a message, with a length below 2^28.
std::string field(int number, const std::string &contents) {
  std::string bytes(1, static_cast<char>(number << 3 | 2));
  for (size_t size = contents.size(), i = 0; i < 4; ++i, size >>= 7)
    bytes += static_cast<char>((size & 127) | (i < 3 ? 128 : 0));
  return bytes + contents;
}

/// Imports the file `bytes`; the message behind it.
bool importBytes(TestModel &m, const std::string &bytes) {
  std::ofstream(m.path(), std::ios::binary) << bytes;
  m.diagnostics.clear();
  m.module = frontend::importOnnx(m.context, m.path(), m.options, m.diagnostics);
  return static_cast<bool>(m.module);
}

/// y = -x.
void addNegation(TestModel &m) {
  m.input("x", {4});
  m.nodes.add("Neg", {"x"}, "y");
  m.output("y");
}

void addValue(google::protobuf::RepeatedPtrField<onnx::ValueInfoProto> &list, const std::string &name) {
  list.Add()->set_name(name);
}

/// Adds a loop of `count` runs that carries `x` to `y`, and returns its body: v0 to w0, with condition c0 for level 0.
onnx::GraphProto &addLoop(google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes, const std::string &count,
                          const std::string &x, const std::string &y, int level) {
  onnx::NodeProto &loop = NodeBuilder(nodes).addNode("", "Loop", {count, "", x}, {y});
  loop.set_name("loop" + std::to_string(level));
  onnx::AttributeProto &attribute = *loop.add_attribute();
  attribute.set_name("body");
  attribute.set_type(onnx::AttributeProto::GRAPH);
  onnx::GraphProto &body = *attribute.mutable_g();
  const std::string suffix = std::to_string(level);
  for (const char *name : {"i", "c", "v"})
    addValue(*body.mutable_input(), name + suffix);
  addValue(*body.mutable_output(), "c" + suffix);
  addValue(*body.mutable_output(), "w" + suffix);
  return body;
}

/// Two loops in one another of `count` runs each; the inner one's body, which maps v1 to w1.
onnx::GraphProto &addLoops(TestModel &m, int64_t count) {
  m.input("x", {4});
  m.output("y");
  m.nodes.scalar(count, "count");
  onnx::GraphProto &outer = addLoop(*m.graph.mutable_node(), "count", "x", "y", 0);
  return addLoop(*outer.mutable_node(), "count", "v0", "w0", 1);
}

TEST(Limits, NamesThatAreNoText) {
  TestModel m;
  addNegation(m);
  const std::string whole = m.proto.SerializeAsString();
  EXPECT_TRUE(importBytes(m, whole)) << m.messages();
  // A field that is written twice counts the last time.
  EXPECT_FALSE(importBytes(m, whole + field(onnx::ModelProto::kProducerNameFieldNumber, "a\xff")));
  EXPECT_TRUE(says(m, "the name or text 'a\\377' in it is not UTF-8")) << m.messages();
  EXPECT_TRUE(importBytes(m, whole + field(onnx::ModelProto::kProducerNameFieldNumber, "\xc3\xa9"))) << m.messages();
  EXPECT_TRUE(importBytes(m, whole + field(onnx::ModelProto::kDocStringFieldNumber, "a\xff"))) << m.messages();
}

TEST(Limits, PartsThatTakeMuchMoreThanInTheFile) {
  TestModel m;
  addNegation(m);
  const std::string whole = m.proto.SerializeAsString();
  // Nodes without anything: 2 bytes here, more than 128 in memory.
  std::string nodes;
  for (int i = 0; i < 6'000'000; ++i)
    nodes += std::string("\x0a\0", 2);
  EXPECT_FALSE(importBytes(m, whole + field(onnx::ModelProto::kGraphFieldNumber, nodes)));
  EXPECT_TRUE(says(m, "more than 768 MB of memory")) << m.messages();
  // Numbers that are packed: a byte here, 8 in memory.
  const std::string tensor = field(onnx::TensorProto::kInt64DataFieldNumber, std::string(110'000'000, '\1'));
  EXPECT_FALSE(importBytes(
      m, whole + field(onnx::ModelProto::kGraphFieldNumber, field(onnx::GraphProto::kInitializerFieldNumber, tensor))));
  EXPECT_TRUE(says(m, "more than 768 MB of memory")) << m.messages();
}

TEST(Limits, GroupsHideNothing) {
  TestModel m;
  addNegation(m);
  const std::string whole = m.proto.SerializeAsString();
  // Field 100, which no version of ONNX has, as a varint and as a group.
  EXPECT_TRUE(importBytes(m, whole + "\xa0\x06\x01")) << m.messages();
  EXPECT_FALSE(importBytes(m, whole + "\xa3\x06\xa4\x06"));
  EXPECT_TRUE(says(m, "this is not an ONNX model")) << m.messages();
}

TEST(Limits, FunctionsInFunctions) {
  for (const int depth : {60, 20000}) {
    TestModel m;
    m.input("x", {4});
    m.output("y");
    for (int i = 0; i <= depth; ++i) {
      onnx::FunctionProto &function = *m.proto.add_functions();
      function.set_domain("d");
      function.set_name("F" + std::to_string(i));
      function.add_input("a");
      function.add_output("b");
      onnx::OperatorSetIdProto &opset = *function.add_opset_import();
      opset.set_version(20);
      if (i < depth)
        NodeBuilder(*function.mutable_node()).addNode("d", "F" + std::to_string(i + 1), {"a"}, {"b"});
      else
        NodeBuilder(*function.mutable_node()).add("Neg", {"a"}, "b");
    }
    m.nodes.addNode("d", "F0", {"x"}, {"y"});
    EXPECT_EQ(m.import(), depth == 60) << m.messages();
    EXPECT_EQ(says(m, "there are more than 64 around it"), depth != 60) << m.messages();
    EXPECT_LE(m.diagnostics.size(), 100u);
  }
}

TEST(Limits, LoopsWithoutNodesPassTheirValuesOn) {
  TestModel m;
  m.input("x", {2});
  m.output("y");
  m.nodes.scalar(int64_t(3), "count");
  onnx::GraphProto &body = addLoop(*m.graph.mutable_node(), "count", "x", "y", 0);
  body.mutable_output(1)->set_name("v0");
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.run({{3, -4}})["y"], (std::vector<double>{3, -4}));
}

TEST(Limits, LoopsInLoops) {
  // What a run of the inner body costs, and how many of them are taken before it is too much.
  struct Case {
    const char *what;
    int64_t runs;
    void (*fill)(TestModel &, onnx::GraphProto &);
  };
  const Case cases[] = {
      {"nothing", 1000, [](TestModel &, onnx::GraphProto &body) { body.mutable_output(1)->set_name("v1"); }},
      {"long names", 100,
       [](TestModel &m, onnx::GraphProto &body) {
         m.graph.mutable_node(1)->set_name(std::string(100'000, 'n'));
         NodeBuilder(*body.mutable_node()).add("Neg", {"v1"}, "w1");
       }},
      {"constants", 100,
       [](TestModel &, onnx::GraphProto &body) {
         NodeBuilder nodes(*body.mutable_node());
         nodes.list(std::vector<int64_t>(4096, 7), "many");
         nodes.add("Mul", {"many", "many"}, "square");
         nodes.add("Identity", {"v1"}, "w1");
       }},
      {"values that it does not use", 1000, [](TestModel &, onnx::GraphProto &body) {
         NodeBuilder(*body.mutable_node()).add("Identity", {"v1"}, "w1");
         for (int i = 0; i < 1000; ++i)
           addValue(*body.mutable_output(), "v1");
       }}};
  for (const Case &each : cases) {
    TestModel m;
    each.fill(m, addLoops(m, each.runs));
    EXPECT_FALSE(m.import()) << each.what;
    EXPECT_EQ(m.diagnostics.size(), 1u) << each.what << m.messages();
    EXPECT_TRUE(says(m, "the program is too large with all of its functions and loops unrolled")) << m.messages();
  }
}

TEST(Limits, SequencesThatAreCopied) {
  TestModel m;
  m.input("x", {4});
  m.output("y");
  m.nodes.add("SequenceConstruct", {"x"}, "s0");
  constexpr int kInsertions = 10000;
  for (int i = 0; i < kInsertions; ++i)
    m.nodes.add("SequenceInsert", {"s" + std::to_string(i), "x"}, "s" + std::to_string(i + 1));
  m.nodes.add("SequenceAt", {"s" + std::to_string(kInsertions), m.nodes.scalar(int64_t(5), "five")}, "y");
  EXPECT_FALSE(m.import());
  EXPECT_TRUE(says(m, "the program is too large")) << m.messages();
}

TEST(Limits, LabelOfTwoExtentsInOneTermOfEinsum) {
  for (const int64_t extent : {3, 4, 1}) {
    TestModel m;
    m.input("x", {3, extent});
    onnx::NodeProto &node = m.nodes.addNode("", "Einsum", {"x"}, {"y"});
    onnx::AttributeProto &equation = *node.add_attribute();
    equation.set_name("equation");
    equation.set_type(onnx::AttributeProto::STRING);
    equation.set_s("ii->i");
    m.output("y");
    EXPECT_EQ(m.import(), extent == 3) << m.messages();
    EXPECT_EQ(says(m, "repeats a label for dimensions of 3 and " + std::to_string(extent)), extent != 3)
        << m.messages();
  }
}

} // namespace
