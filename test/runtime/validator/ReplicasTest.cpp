//===- ReplicasTest.cpp - Copies of parameters that would drift apart ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// An update of one parameter on 2 x 3 ranks, which its gradient reaches by a reduction: with all its axes, with some of
// them, with none; and with what takes a part, or belongs to ranks, in between. A wrong line in the walk accepts one of
// the plans whose ranks would train parameters of their own, or refuses one that all plans of data parallelism have.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Validator.h"
#include "test/runtime/validator/MutateRanks.h"
#include "test/runtime/validator/PlanBuilder.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

constexpr int64_t kFloats = 24;
constexpr auto kType = plan::F32;

plan::AxisLayout lies(uint32_t axis, plan::AxisLayout::Kind kind) {
  plan::AxisLayout layout;
  layout.set_axis(axis);
  layout.set_kind(kind);
  return layout;
}

/// A parameter that all ranks have, its gradient, a sum over all ranks, and `apply`, which updates the one by the
/// other.
class Update {
public:
  Update() {
    using plan::Operand;
    const uint64_t bytes = kFloats * sizeof(float);
    const uint32_t states = builder.arena(plan::Arena::STATE, 128), grads = builder.arena(plan::Arena::GRADIENTS, 128),
                   steps = builder.arena(plan::Arena::STEP, 512);
    const uint32_t p = builder.buffer("p", states, 0, bytes), g = builder.buffer("g", grads, 0, bytes),
                   sum = builder.buffer("sum", steps, 0, bytes), scratch = builder.buffer("scratch", steps, 128, 256);
    builder.state("p", plan::StateTensor::PARAMETER, p, 0, kFloats);
    builder.state("p.grad", plan::StateTensor::GRADIENT, g, 0, kFloats).set_of("p");
    plan::Program &program = builder.program("update");
    PlanBuilder::step(program, "reduce", 0,
                      {operand(Operand::READ, g, 0, kType, {kFloats}),
                       operand(Operand::WRITE, sum, 0, kType, {kFloats}), operand(Operand::SCRATCH, scratch, 0, 256)});
    PlanBuilder::step(
        program, "apply", 0,
        {operand(Operand::READ, sum, 0, kType, {kFloats}), operand(Operand::READ_WRITE, p, 0, kType, {kFloats})});
    made = builder.finish();
    for (auto [name, size] : {std::pair{"data", 2}, {"expert", 3}}) {
      plan::MeshAxis &axis = *made.add_mesh();
      axis.set_name(name);
      axis.set_size(size);
    }
    for (uint32_t axis : {0U, 1U})
      *made.mutable_state(1)->add_layout() = lies(axis, plan::AxisLayout::PARTIAL);
  }

  void reduceOver(std::initializer_list<uint32_t> axes) {
    plan::Collective &work = *reduce().mutable_collective();
    work.set_kind(plan::Collective::ALL_REDUCE);
    work.set_count(kFloats);
    work.set_scratch_bytes(256);
    work.mutable_axes()->Clear();
    work.mutable_axes()->Add(axes.begin(), axes.end());
  }
  plan::Step &reduce() { return *made.mutable_programs(0)->mutable_steps(0); }
  plan::MeshAxis &mesh(int axis) { return *made.mutable_mesh(axis); }
  plan::StateTensor &parameter() { return *made.mutable_state(0); }
  plan::StateTensor &gradient() { return *made.mutable_state(1); }

  /// What the validator says: "" or the axes along which "p" may differ.
  std::string verdict() {
    renewDigests(made);
    Validation validation = validate(made);
    if (validation.ok())
      return "";
    const Finding &finding = validation.findings.front();
    if (finding.rule != Rule::Replica || finding.step != 1)
      return validation.status().error().str();
    const std::string &what = finding.diagnostic.what;
    return what.substr(what.find("along ") + 6);
  }

private:
  PlanBuilder builder;
  plan::Plan made;
};

TEST(Replicas, AreUpdatedByWhatAllRanksHave) {
  Update update;
  update.reduceOver({0, 1});
  EXPECT_EQ(update.verdict(), "");
}

// Buckets have a few bytes between tensors whose sizes are odd; the update reads and writes them with the rest.
TEST(Replicas, AreUpdatedWithTheBytesBetweenThem) {
  Update update;
  update.reduceOver({0, 1});
  for (plan::StateTensor *tensor : {&update.parameter(), &update.gradient()}) {
    tensor->set_shape(0, kFloats - 2);
    tensor->mutable_slice()->set_bytes((kFloats - 2) * sizeof(float));
  }
  EXPECT_EQ(update.verdict(), "");
}

TEST(Replicas, DriftWithoutAReduction) {
  Update update;
  update.reduce().mutable_copy();
  update.reduce().mutable_operands()->RemoveLast();
  EXPECT_EQ(update.verdict(), "\"data\", \"expert\"");
}

TEST(Replicas, DriftWithAReductionOverOtherAxes) {
  Update update;
  update.reduceOver({1});
  EXPECT_EQ(update.verdict(), "\"data\"");
  update.reduceOver({0});
  EXPECT_EQ(update.verdict(), "\"expert\"");
}

TEST(Replicas, MayDifferAlongAxesThatSplitThem) {
  Update update;
  update.reduceOver({0});
  // Each rank of the axis has experts of its own.
  plan::AxisLayout split = lies(1, plan::AxisLayout::SHARD);
  for (plan::StateTensor *tensor : {&update.parameter(), &update.gradient()}) {
    tensor->set_shape(0, 3 * kFloats);
    if (tensor == &update.parameter())
      *tensor->add_layout() = split;
    else
      *tensor->mutable_layout(1) = split;
  }
  EXPECT_EQ(update.verdict(), "");
}

TEST(Replicas, DriftWhenRanksTakePartsOfTheSame) {
  Update update;
  update.gradient().clear_layout();
  update.reduce().mutable_as_partial()->add_axes(1);
  update.reduce().mutable_operands()->RemoveLast();
  EXPECT_EQ(update.verdict(), "\"expert\"");
  // What is the same everywhere may be copied as often as one likes.
  update.reduce().mutable_copy();
  EXPECT_EQ(update.verdict(), "");
}

TEST(Replicas, DoNotDifferAlongAxesOfOneRank) {
  Update update;
  update.reduceOver({0});
  update.mesh(1).set_size(1);
  EXPECT_EQ(update.verdict(), "");
}

} // namespace
