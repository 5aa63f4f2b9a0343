//===- CommunicationTest.cpp - The report of what ranks send ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/Communication.h"

#include "test/runtime/plan/MeshPlan.h"
#include "test/tools/moec/DotReader.h"
#include "tools/moec/PlanGraph.h"
#include "tools/moec/Report.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::tools;
using namespace moe::test;
using Json = nlohmann::ordered_json;

// The plan moves [2, 6] in float32, 48 bytes, on data=2 expert=3. By hand:
//   all_reduce over 6 ranks: 5 parts of 8 bytes go to their owners, the own sum to 5 ranks: 80 bytes in 10 messages
//   all_gather over 3: 48 bytes to each of 2; reduce_scatter and all_to_all over 3: 16 bytes to each of 2
//   all_reduce over 2: 24 bytes there and 24 back
// Catches: sizes of the wrong axis, bytes of the rank's own part, rows that are merged though their axes differ.
TEST(Communication, BytesAndMessagesAreThoseCountedByHand) {
  const plan::Plan plan = meshPlan().plan;
  const Json rows = describeCommunication(plan, plan.programs(0));
  struct Row {
    const char *axes, *kind;
    uint64_t messages, bytes;
  } wanted[] = {{"data+expert", "all_reduce", 10, 80},
                {"expert", "all_gather", 2, 96},
                {"expert", "reduce_scatter", 2, 32},
                {"expert", "all_to_all", 2, 32},
                {"data", "all_reduce", 2, 48}};
  ASSERT_EQ(rows.size(), std::size(wanted));
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["axes"], wanted[i].axes);
    EXPECT_EQ(rows[i]["kind"], wanted[i].kind);
    EXPECT_EQ(rows[i]["collectives"], 1);
    EXPECT_EQ(rows[i]["messages"], wanted[i].messages) << i;
    EXPECT_EQ(rows[i]["bytes_sent"], wanted[i].bytes) << i;
    EXPECT_EQ(rows[i]["exposed"], Json::array({"collective"})) << "nothing runs in another lane";
    EXPECT_EQ(rows[i]["exposed_bytes"], wanted[i].bytes);
  }
  EXPECT_NE(
      planReport(plan, "p.moe").find("sent by a rank (data=2 expert=3)\n  micro_step  all_reduce     data+expert "),
      std::string::npos)
      << planReport(plan, "p.moe");
  EXPECT_EQ(nlohmann::json::parse(planReportJson(plan))["programs"]["micro_step"]["communication"],
            nlohmann::json::parse(rows.dump()));
}

// Catches: a second collective of the same kind and axes in a row of its own, or taking the first one's place.
TEST(Communication, AlikeOnesAddUp) {
  plan::Plan plan = meshPlan().plan;
  plan::Program &program = *plan.mutable_programs(0);
  *program.add_steps() = program.steps(mesh_step::AllGather);
  plan::Step &hidden = *program.add_steps();
  hidden = program.steps(mesh_step::AllGather);
  hidden.set_name("hidden");
  program.add_steps()->set_lane(0);
  const Json row = describeCommunication(plan, program)[1];
  EXPECT_EQ(row["collectives"], 3);
  EXPECT_EQ(row["messages"], 6);
  EXPECT_EQ(row["bytes_sent"], 3 * 96);
  EXPECT_EQ(row["exposed_bytes"], 0);
  // All that this plan computes is its first step, of a microsecond; a collective takes 10 and what it sends at 5 GB/s.
  EXPECT_NEAR(row["seconds"].get<double>(), 3 * (10e-6 + 96 / 5e9), 1e-9);
  EXPECT_NEAR(row["exposed_seconds"].get<double>(), row["seconds"].get<double>(), 1e-9);
}

// Catches: collectives that look like any other step, bytes or axes of another one.
TEST(Communication, TheGraphDrawsCollectives) {
  const plan::Plan plan = meshPlan().plan;
  const std::string text = planGraphDot(plan, plan.programs(0));
  DotGraph graph;
  std::string error;
  ASSERT_TRUE(readDot(text, graph, error)) << error;
  EXPECT_EQ(graph.nodes["s" + std::to_string(mesh_step::AllReduce)],
            "collective\nall_reduce over data+expert, sends 80 B");
  EXPECT_EQ(graph.nodes["s" + std::to_string(mesh_step::AllToAll)], "collective\nall_to_all over expert, sends 32 B");
  EXPECT_EQ(graph.nodes["s" + std::to_string(mesh_step::Fill)].find("sends"), std::string::npos);
  size_t filled = 0;
  for (size_t at = text.find("orange"); at != std::string::npos; at = text.find("orange", at + 1))
    ++filled;
  EXPECT_EQ(filled, 5u);
}

// Catches: a table for those who have one rank.
TEST(Communication, OneRankSendsNothing) {
  PlanBuilder builder;
  builder.program("micro_step");
  builder.addFill(builder.step(8), 0);
  EXPECT_EQ(communicationText(builder.finish().plan), "");
}
