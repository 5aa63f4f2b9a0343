//===- MeshTest.cpp - Ranks, their parts of tensors, and work between them ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Mesh.h"
#include "runtime/plan/Collectives.h"
#include "runtime/plan/Structure.h"
#include "runtime/plan/Validator.h"
#include "test/runtime/plan/MeshPlan.h"
#include "test/runtime/validator/MutateRanks.h"

#include <functional>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>
#include <random>

using namespace moe;
using namespace moe::test;

namespace {

plan::Step &step(plan::Plan &plan, int index) {
  return *plan.mutable_programs(0)->mutable_steps(index);
}
plan::Collective &collective(plan::Plan &plan, int index) {
  return *step(plan, index).mutable_collective();
}

AxisList list(std::initializer_list<uint32_t> axes) {
  AxisList result;
  result.Add(axes.begin(), axes.end());
  return result;
}

TEST(Mesh, TheLastAxisIsTheFastest) {
  plan::Plan plan = meshPlan().plan;
  EXPECT_EQ(rankCount(plan), 6u);
  EXPECT_EQ(coordinatesOf(plan, 4), (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(coordinatesOf(plan, 2), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(meshText(plan), "data=2 expert=3");
  EXPECT_EQ(rankCount(plan::Plan()), 1u);
}

TEST(Mesh, GroupsAreNumberedByTheirAxesAsListed) {
  plan::Plan plan = meshPlan().plan;
  EXPECT_EQ(groupMembers(plan, list({1}), 4), (std::vector<int>{3, 4, 5}));
  EXPECT_EQ(groupMembers(plan, list({0}), 4), (std::vector<int>{1, 4}));
  EXPECT_EQ(groupMembers(plan, list({0, 1}), 4), (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(groupMembers(plan, list({1, 0}), 4), (std::vector<int>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(groupMembers(plan, list({}), 4), (std::vector<int>{4}));
  // A rank finds itself where its group index says, on each rank and in each group.
  for (const AxisList &axes : {list({}), list({0}), list({1}), list({0, 1}), list({1, 0})})
    for (int rank = 0; rank < 6; ++rank) {
      std::vector<int> members = groupMembers(plan, axes, rank);
      ASSERT_EQ(members.size(), groupSize(plan, axes));
      EXPECT_EQ(members[static_cast<size_t>(groupIndex(plan, axes, coordinatesOf(plan, rank)))], rank);
    }
}

TEST(Mesh, SlicesHoldShardsOrSharesOfBuckets) {
  plan::Plan plan = meshPlan().plan;
  const std::pair<uint64_t, uint64_t> expected[] = {{4, 4}, {8, 8}, {10, 3}, {7, 3}};
  for (int i = 0; i < plan.state_size(); ++i) {
    EXPECT_EQ(shardElements(plan, plan.state(i)), expected[i].first) << plan.state(i).name();
    EXPECT_EQ(sliceElements(plan, plan.state(i)), expected[i].second) << plan.state(i).name();
  }
}

TEST(Mesh, ThePlanIsAccepted) {
  Status status = validate(meshPlan().plan).status();
  EXPECT_TRUE(status) << status.error().str();
}

TEST(Mesh, StructureNamesEachFault) {
  using namespace mesh_step;
  struct Fault {
    const char *expected; ///< part of the message
    std::function<void(plan::Plan &)> make;
  };
  const Fault faults[] = {
      {"mesh axis 1 'expert'", [](auto &p) { p.mutable_mesh(1)->set_size(0); }},
      {"is more than 1048576 ranks", [](auto &p) { p.mutable_mesh(1)->set_size(int64_t{1} << 40); }},
      {"state 0 'split': its layout has", [](auto &p) { p.mutable_state(0)->mutable_layout(1)->set_axis(2); }},
      {"state 0 'split': its layout has", [](auto &p) { p.mutable_state(0)->mutable_layout(1)->set_axis(0); }},
      {"its dimension 0 can not be split over axis 'expert'", [](auto &p) { p.mutable_state(0)->set_shape(0, 8); }},
      {"its dimension 2 can not be split", [](auto &p) { p.mutable_state(0)->mutable_layout(0)->set_dim(2); }},
      {"its dimension 1 can not be split", [](auto &p) { p.mutable_state(0)->mutable_layout(1)->set_dim(1); }},
      {"its shape does not fit into its slice", [](auto &p) { p.mutable_state(0)->mutable_layout()->RemoveLast(); }},
      {"state 1 'split.grad': it is partial", [](auto &p) { p.mutable_state(1)->set_kind(plan::StateTensor::MOMENT); }},
      {"state 3 'flat1': it ends beyond its bucket",
       [](auto &p) { p.mutable_state(3)->mutable_flat()->set_position(12); }},
      {"it ends beyond its bucket", [](auto &p) { p.mutable_state(3)->mutable_flat()->set_position(-1); }},
      {"its bucket of 20 elements", [](auto &p) { p.mutable_state(3)->mutable_flat()->set_bucket(20); }},
      {"its bucket is split over axes", [](auto &p) { p.mutable_state(3)->mutable_flat()->set_axes(1, 0); }},
      {"its bucket is split over axes",
       [](auto &p) {
         p.mutable_state(3)->set_shape(0, 6);
         plan::AxisLayout &layout = *p.mutable_state(3)->add_layout();
         layout.set_kind(plan::AxisLayout::SHARD);
       }},
      {"its rows can not be split", [](auto &p) { p.mutable_inputs(0)->set_shape(0, 7); }},
      {"its rows can not be split", [](auto &p) { p.mutable_inputs(0)->set_axes(0, 5); }},
      {"its shape does not fit", [](auto &p) { p.mutable_inputs(0)->mutable_axes()->RemoveLast(); }},
      {"output 0 'rows': its dimension 0 can not be split",
       [](auto &p) { p.mutable_programs(0)->mutable_outputs(0)->set_shape(0, 3); }},
      {"output 0 'rows': its shape does not fit",
       [](auto &p) { p.mutable_programs(0)->mutable_outputs(0)->clear_layout(); }},
      {"collective: its axes", [](auto &p) { collective(p, AllReduce).clear_axes(); }},
      {"collective: its axes", [](auto &p) { collective(p, AllReduce).set_axes(1, 0); }},
      {"collective: its axes", [](auto &p) { collective(p, AllReduce).set_axes(1, 2); }},
      {"collective: a size is below 1", [](auto &p) { collective(p, AllReduce).set_count(0); }},
      {"collective: it has no kind", [](auto &p) { collective(p, AllReduce).clear_kind(); }},
      {"operand 0 (input) has 48 bytes, 52", [](auto &p) { collective(p, AllReduce).set_count(13); }},
      {"operand 1 (output) has 144 bytes, 288",
       [](auto &p) {
         collective(p, AllGather).add_axes(0);
         collective(p, AllGather).mutable_concat()->set_outer(2);
       }},
      {"72 elements are not 2 x 6 ranks x 5",
       [](auto &p) {
         collective(p, AllGather).add_axes(0);
         collective(p, AllGather).mutable_concat()->set_inner(5);
       }},
      {"12 elements are not 3 x 3 ranks x 2",
       [](auto &p) { collective(p, ReduceScatter).mutable_split()->set_outer(3); }},
      {"12 elements are not 0 x 3 ranks x 2",
       [](auto &p) { collective(p, ReduceScatter).mutable_split()->set_outer(0); }},
      {"collective: split: 12 elements", [](auto &p) { collective(p, AllToAll).mutable_split()->set_inner(3); }},
      {"collective: concat: 12 elements", [](auto &p) { collective(p, AllToAll).mutable_concat()->set_inner(3); }},
      {"48 bytes of scratch, 96",
       [](auto &p) {
         collective(p, AllToAll).mutable_concat()->set_outer(2);
         collective(p, AllToAll).mutable_concat()->set_inner(2);
       }},
      {"operand 0 (input) has type F16", [](auto &p) { step(p, AllReduce).mutable_operands(0)->set_dtype(plan::F16); }},
      {"input and output have different types",
       [](auto &p) { step(p, AllGather).mutable_operands(0)->set_dtype(plan::I32); }},
      {"only an all_reduce works in place", [](auto &p) { collective(p, AllGather).set_in_place(true); }},
      {"collective: it has 3 operands instead of 2", [](auto &p) { collective(p, AllReduce).set_in_place(true); }},
      {"axis_slice: its axes", [](auto &p) { step(p, Slice).mutable_axis_slice()->set_axes(0, 9); }},
      {"operand 0 (source) has 48 bytes, 72",
       [](auto &p) { step(p, Slice).mutable_axis_slice()->mutable_parts()->set_outer(3); }},
      {"operand 1 (destination) has 144 bytes, 216",
       [](auto &p) { step(p, Pad).mutable_axis_slice()->mutable_parts()->set_outer(3); }},
      {"as_partial: its axes", [](auto &p) { step(p, AsPartial).mutable_as_partial()->clear_axes(); }},
      {"source and destination have different sizes",
       [](auto &p) {
         plan::Operand &operand = *step(p, AsPartial).mutable_operands(1);
         operand.set_shape(1, 5);
         operand.mutable_slice()->set_bytes(40);
       }},
  };
  for (size_t i = 0; i < std::size(faults); ++i) {
    plan::Plan plan = meshPlan().plan;
    faults[i].make(plan);
    Status status = checkPlanStructure(plan);
    ASSERT_FALSE(status) << "fault " << i << ": " << faults[i].expected;
    EXPECT_NE(status.error().str().find(faults[i].expected), std::string::npos)
        << "fault " << i << ": " << faults[i].expected << " is not in\n"
        << status.error().str();
  }
}

/// Exactly one finding, of this rule and at this step.
void expectOne(const plan::Plan &plan, Rule rule, int stepIndex) {
  Validation validation = validate(plan);
  ASSERT_EQ(validation.findings.size(), 1u) << (validation.ok() ? "" : validation.status().error().str());
  EXPECT_EQ(ruleName(validation.findings[0].rule), ruleName(rule)) << validation.status().error().str();
  EXPECT_EQ(validation.findings[0].step, stepIndex) << validation.status().error().str();
}

TEST(Mesh, CollectivesHaveOneOrder) {
  plan::Plan plan = meshPlan().plan;
  step(plan, mesh_step::AllToAll).set_lane(2);
  Validation validation = validate(plan);
  bool found = false;
  for (const Finding &finding : validation.findings)
    found |= finding.rule == Rule::Collective && finding.step == mesh_step::AllToAll;
  EXPECT_TRUE(found) << validation.status().error().str();
}

TEST(Mesh, TheDigestTellsCollectivesApart) {
  using namespace mesh_step;
  const std::function<void(plan::Plan &)> changes[] = {
      [](auto &p) { p.mutable_programs(0)->set_collectives(1); },
      [](auto &p) { collective(p, AllReduce).set_reduction(plan::Collective::MAX); },
      [](auto &p) {
        std::swap(*collective(p, AllReduce).mutable_axes()->Mutable(0),
                  *collective(p, AllReduce).mutable_axes()->Mutable(1));
      },
      [](auto &p) { p.mutable_programs(0)->mutable_steps()->SwapElements(AllGather, ReduceScatter); },
      // The same collective on another tensor of this size, which has been written too: nothing else is wrong with it.
      [](auto &p) {
        *step(p, ReduceScatter).mutable_operands(0)->mutable_slice() = step(p, AllReduce).operands(1).slice();
      },
  };
  for (const auto &change : changes) {
    plan::Plan plan = meshPlan().plan;
    change(plan);
    expectOne(plan, Rule::Collective, -1);
  }
  plan::Program none;
  EXPECT_EQ(collectiveDigest(none), 0u);
}

TEST(Mesh, WorkBetweenRanksWritesAllOfItsOutput) {
  using namespace mesh_step;
  for (int index : {AllReduce, AllGather, ReduceScatter, AllToAll, Slice, Pad}) {
    plan::Plan plan = meshPlan().plan;
    plan::Operand &operand = *step(plan, index).mutable_operands(1);
    plan::Buffer &buffer = *plan.mutable_buffers(static_cast<int>(operand.slice().buffer()));
    ASSERT_LE(buffer.bytes() % 64, 56u);
    buffer.set_bytes(buffer.bytes() + 8);
    operand.mutable_slice()->set_bytes(buffer.bytes());
    operand.clear_shape();
    renewDigests(plan);
    expectOne(plan, Rule::Coverage, index);
  }
}

TEST(Mesh, SlicesAreExactlyTheRanksPart) {
  plan::Plan plan = meshPlan().plan;
  plan.mutable_state(0)->mutable_layout()->RemoveLast(); // [3, 4] instead of [1, 4]
  plan.mutable_state(0)->set_shape(0, 2);
  EXPECT_TRUE(validate(plan).ok());
  plan.mutable_state(0)->mutable_layout(0)->set_dim(1); // [2, 2]
  EXPECT_TRUE(validate(plan).ok());
  plan.mutable_state(0)->set_shape(1, 2);
  expectOne(plan, Rule::Shape, -1);
  plan = meshPlan().plan;
  plan.mutable_inputs(0)->set_shape(1, 4);
  expectOne(plan, Rule::Shape, -1);
}

TEST(Mesh, MembersOfABucketKeepApartAndAgree) {
  plan::Plan plan = meshPlan().plan;
  plan.mutable_state(3)->mutable_flat()->set_position(9);
  expectOne(plan, Rule::Overlap, -1);
  plan = meshPlan().plan;
  std::swap(*plan.mutable_state(3)->mutable_flat()->mutable_axes()->Mutable(0),
            *plan.mutable_state(3)->mutable_flat()->mutable_axes()->Mutable(1));
  expectOne(plan, Rule::Shape, -1);
  plan = meshPlan().plan;
  plan.mutable_state(3)->set_dtype(plan::I32);
  expectOne(plan, Rule::Shape, -1);
  plan = meshPlan().plan; // what is no member of the bucket must not lie in it
  plan.mutable_state(3)->clear_flat();
  plan.mutable_state(3)->set_shape(0, 3);
  expectOne(plan, Rule::Overlap, -1);
}

// Any bytes that protobuf accepts: the checks must come to an end without touching memory that they do not own.
TEST(Mesh, SurvivesArbitraryMessages) {
  const std::string sound = meshPlan().plan.SerializeAsString();
  std::mt19937 random(12);
  google::protobuf::LogSilencer silence; // names that are no UTF-8
  int parsed = 0, accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string altered = sound;
    for (int changes = 1 + static_cast<int>(random() % 4); changes > 0; --changes)
      altered[random() % altered.size()] = static_cast<char>(random());
    plan::Plan plan;
    if (!plan.ParseFromString(altered))
      continue;
    ++parsed;
    accepted += validate(plan).ok() ? 1 : 0;
  }
  EXPECT_GT(parsed, 1000);
  EXPECT_LT(accepted, parsed / 2);
}

TEST(Mesh, ScratchHoldsWhatIsPackedSummedAndUnpacked) {
  plan::Collective work;
  work.set_kind(plan::Collective::ALL_REDUCE);
  work.set_count(13);
  EXPECT_EQ(collectiveScratchBytes(work, plan::F32, 4), 4u * 4 * 4); // blocks of 4 elements, the last one shorter
  EXPECT_EQ(collectiveScratchBytes(work, plan::BF16, 4), 4u * 4 * 2);
  EXPECT_EQ(collectiveScratchBytes(work, plan::F32, 1), 0u);
  work.set_count(INT64_MAX);
  EXPECT_EQ(collectiveScratchBytes(work, plan::F32, 4), UINT64_MAX);
  work.set_kind(plan::Collective::ALL_TO_ALL);
  work.set_count(24);
  work.mutable_split()->set_outer(1);
  work.mutable_concat()->set_outer(1);
  EXPECT_EQ(collectiveScratchBytes(work, plan::F32, 4), 0u);
  work.mutable_split()->set_outer(2);
  EXPECT_EQ(collectiveScratchBytes(work, plan::F32, 4), 24u * 4);
  work.mutable_concat()->set_outer(2);
  EXPECT_EQ(collectiveScratchBytes(work, plan::F32, 4), 48u * 4);
}

} // namespace
