//===- PlanGraphTest.cpp - Which step uses what which step made ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/PlanGraph.h"

#include "test/runtime/TestFiles.h"
#include "test/runtime/plan/PlanBuilder.h"
#include "test/tools/moec/DotReader.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <tuple>

using namespace moe;
using namespace moe::test;
using namespace moe::tools;

namespace {

using Edges = std::map<std::pair<int, int>, uint64_t>;

Edges edgesOf(const plan::Plan &plan) {
  Edges edges;
  for (const PlanEdge &edge : dataFlow(plan, plan.programs(0)))
    EXPECT_TRUE(edges.emplace(std::pair(edge.from, edge.to), edge.bytes).second) << "an edge twice";
  return edges;
}

plan::Slice part(const plan::Slice &whole, uint64_t offset, uint64_t bytes) {
  plan::Slice slice = whole;
  slice.set_offset(whole.offset() + offset);
  slice.set_bytes(bytes);
  return slice;
}

/// The definition, byte by byte: the last writer of each byte of each arena.
Edges byteByByte(const plan::Plan &plan) {
  std::map<std::pair<uint32_t, uint64_t>, int> writer;
  Edges edges;
  const plan::Program &program = plan.programs(0);
  for (int i = 0; i < program.steps_size(); ++i) {
    using Operand = plan::Operand;
    auto each = [&](std::initializer_list<Operand::Access> accesses, auto visit) {
      for (const Operand &operand : program.steps(i).operands())
        for (Operand::Access access : accesses)
          if (operand.access() == access) {
            const plan::Buffer &buffer = plan.buffers(static_cast<int>(operand.slice().buffer()));
            for (uint64_t byte = 0; byte < operand.slice().bytes(); ++byte)
              visit(std::pair(buffer.arena(), buffer.offset() + operand.slice().offset() + byte));
          }
    };
    std::map<std::pair<uint32_t, uint64_t>, int> read;
    each({Operand::READ, Operand::READ_WRITE}, [&](auto at) {
      if (writer.count(at))
        read[at] = writer[at];
    });
    for (auto [at, from] : read)
      ++edges[{from, i}];
    each({Operand::SCRATCH}, [&](auto at) { writer.erase(at); });
    each({Operand::WRITE, Operand::READ_WRITE}, [&](auto at) { writer[at] = i; });
  }
  return edges;
}

} // namespace

// Catches: following buffers instead of bytes; taking the first writer instead of the last one.
TEST(PlanGraph, FollowsBytesAcrossBuffersThatShareMemory) {
  PlanBuilder builder;
  builder.program("micro_step");
  plan::Slice whole = builder.step(64);
  plan::Slice alias = builder.step(64);
  builder.file.plan.mutable_buffers(static_cast<int>(alias.buffer()))->set_offset(0);
  builder.addFill(whole, 0);                                  // 0
  builder.addFill(part(alias, 32, 32), 1);                    // 1 overwrites the second half
  builder.addCopy(part(whole, 16, 24), builder.step(24));     // 2 reads 16 bytes of 0, 8 of 1
  builder.addCopy(builder.state(24), part(alias, 0, 24));     // 3 reads what no step wrote
  builder.addCopy(part(whole, 0, 64), builder.gradients(64)); // 4 reads 24 of 3, 8 of 0, 32 of 1
  EXPECT_EQ(edgesOf(builder.finish().plan),
            (Edges{{{0, 2}, 16}, {{1, 2}, 8}, {{3, 4}, 24}, {{0, 4}, 8}, {{1, 4}, 32}}));
}

// Catches: a step that works in place as its own source; scratch as a source or as a writer; bytes that are read
// through two operands counted twice.
TEST(PlanGraph, KnowsHowOperandsAreUsed) {
  PlanBuilder builder;
  builder.program("micro_step");
  plan::Slice a = builder.step(16), b = builder.step(16);
  builder.addFill(a, 0);                             // 0
  plan::Step &inPlace = builder.addStep("in place"); // 1
  addOperand(inPlace, a, plan::Operand::READ_WRITE);
  addOperand(inPlace, b, plan::Operand::SCRATCH);
  plan::Step &twice = builder.addStep("twice"); // 2
  addOperand(twice, a, plan::Operand::READ);
  addOperand(twice, part(a, 8, 8), plan::Operand::READ);
  addOperand(twice, b, plan::Operand::READ);
  plan::Step &garbage = builder.addStep("garbage"); // 3
  addOperand(garbage, a, plan::Operand::SCRATCH);
  builder.addCopy(a, b); // 4 reads garbage
  EXPECT_EQ(edgesOf(builder.finish().plan), (Edges{{{0, 1}, 16}, {{1, 2}, 16}}));
}

// Catches any wrong split or merge of intervals: 300 random programs against the definition.
TEST(PlanGraph, EqualsTheDefinitionOnRandomPrograms) {
  std::mt19937 random(7);
  auto below = [&](uint64_t limit) { return random() % limit; };
  for (int repeat = 0; repeat < 300; ++repeat) {
    PlanBuilder builder;
    builder.program("micro_step");
    std::vector<plan::Slice> buffers;
    for (int i = 0; i < 5; ++i) {
      buffers.push_back(i < 4 ? builder.step(40) : builder.gradients(40));
      builder.file.plan.mutable_buffers(i)->set_offset(below(48));
    }
    for (int i = 0; i < 12; ++i) {
      plan::Step &step = builder.addStep("step");
      for (uint64_t operand = below(4); operand > 0; --operand) {
        const uint64_t offset = below(40);
        addOperand(step, part(buffers[below(5)], offset, below(41 - offset)),
                   static_cast<plan::Operand::Access>(1 + below(4)));
      }
    }
    const plan::Plan plan = builder.finish().plan;
    ASSERT_EQ(edgesOf(plan), byteByByte(plan)) << "program " << repeat;
  }
}

// Catches: a layer of the first number anywhere in the name ("fc1"), the number of an expert as a layer, empty parts.
TEST(PlanGraph, LayersAreNamesUpToTheFirstNumber) {
  EXPECT_EQ(layerOf("decoder.layers.3.self_attn.context.grad"), "decoder.layers.3");
  EXPECT_EQ(layerOf("decoder.layers.12"), "decoder.layers.12");
  EXPECT_EQ(layerOf("decoder.layers.1.moe_layer/experts.7.fc1"), "decoder.layers.1");
  EXPECT_EQ(layerOf("blocks/0/fc1"), "blocks/0");
  EXPECT_EQ(layerOf("decoder.fc1.product"), "");
  EXPECT_EQ(layerOf("..a"), "");
  EXPECT_EQ(layerOf(""), "");
}

// Catches: missing escapes, edges to other ids than those of the nodes, steps outside their layer's frame.
TEST(PlanGraph, DotIsWellFormedWhateverTheNames) {
  PlanBuilder builder;
  builder.program("micro \"step\"");
  plan::Slice a = builder.step(2048), b = builder.step(2048);
  builder.addFill(a, 0).set_name("layers.0.\"quoted\"\\n");
  plan::Step &copy = builder.addCopy(a, b);
  copy.set_name("layers.0.{x} -> [y];\nz\\");
  copy.set_flops(1.5e6);
  builder.addCopy(b, a).set_name("layers.1.é");
  builder.addCopy(a, b).set_name("loss");
  const plan::Plan plan = builder.finish().plan;
  DotGraph graph;
  std::string error;
  ASSERT_TRUE(readDot(planGraphDot(plan, plan.programs(0)), graph, error)) << error;
  EXPECT_EQ(graph.name, "micro \"step\"");
  EXPECT_EQ(graph.nodes, (std::map<std::string, std::string>{
                             {"s0", "layers.0.\"quoted\"\\n\nfill"},
                             {"s1", "layers.0.{x} -> [y];\nz\\\ncopy, 1.5e+06 FLOPs"},
                             {"s2", "layers.1.é\ncopy"},
                             {"s3", "loss\ncopy"},
                         }));
  EXPECT_EQ(graph.clusterOf, (std::map<std::string, std::string>{
                                 {"s0", "layers.0"}, {"s1", "layers.0"}, {"s2", "layers.1"}, {"s3", ""}}));
  using Edge = std::pair<std::pair<std::string, std::string>, std::string>;
  EXPECT_EQ(graph.edges,
            (std::vector<Edge>{{{"s0", "s1"}, "2.00 KiB"}, {{"s1", "s2"}, "2.00 KiB"}, {{"s2", "s3"}, "2.00 KiB"}}));
}

// The judge of the language itself, where it is installed.
TEST(PlanGraph, GraphvizDrawsIt) {
  if (std::system("dot -V >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "Graphviz is not installed";
  const plan::Plan plan = everyKindOfRecord().plan;
  TemporaryFolder folder;
  const std::string file = folder.write("plan.dot", planGraphDot(plan, plan.programs(0))).string();
  EXPECT_EQ(std::system(("dot -Tsvg -o /dev/null '" + file + "'").c_str()), 0);
}
