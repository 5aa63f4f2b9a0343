//===- RulesTest.cpp - Each rule broken once, found once ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Validator.h"
#include "test/runtime/KernelParameters.h"
#include "test/runtime/validator/PlanBuilder.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

enum Buffers : uint32_t { W, Mask, Loss, Grad, Ids, H, Y, Tmp, Z };
enum Steps : int { StepH, StepY, StepZ, StepGrad, StepLoss };

/// One lane; z takes the place of h once h is dead.
plan::Plan oneLane() {
  PlanBuilder b;
  uint32_t state = b.arena(plan::Arena::STATE, 128), gradients = b.arena(plan::Arena::GRADIENTS, 32);
  uint32_t staging = b.arena(plan::Arena::STAGING, 32), step = b.arena(plan::Arena::STEP, 128);
  b.buffer("w", state, 0, 32);
  b.buffer("mask", state, 32, 16);
  b.buffer("loss", state, 64, 4);
  b.buffer("w.grad", gradients, 0, 32);
  b.buffer("ids", staging, 0, 32);
  b.buffer("h", step, 0, 32);
  b.buffer("y", step, 32, 32);
  b.buffer("tmp", step, 64, 32);
  b.buffer("z", step, 0, 32);
  b.state("w", plan::StateTensor::PARAMETER, W, 0, 8);
  b.state("mask", plan::StateTensor::FROZEN, Mask, 0, 4);
  b.state("w.grad", plan::StateTensor::GRADIENT, Grad, 0, 8).set_of("w");
  plan::Program &p = b.program("micro_step");
  b.step(p, "h", 0,
         {operand(Operand::READ, Ids, 0, 32), operand(Operand::READ, W, 0, 32), operand(Operand::WRITE, H, 0, 32)});
  b.step(p, "y", 0,
         {operand(Operand::READ, H, 0, plan::F32, {2, 4}), operand(Operand::READ, Mask, 0, 16),
          operand(Operand::WRITE, Y, 0, plan::F32, {2, 4}), operand(Operand::SCRATCH, Tmp, 0, 32)});
  b.step(p, "z", 0, {operand(Operand::READ, Y, 0, 32), operand(Operand::WRITE, Z, 0, 32)});
  b.step(p, "w.grad", 0, {operand(Operand::READ, Z, 0, 32), operand(Operand::READ_WRITE, Grad, 0, 32)});
  b.step(p, "loss", 0, {operand(Operand::READ, Z, 0, 4), operand(Operand::WRITE, Loss, 0, 4)});
  plan::Plan plan = b.finish();
  plan::Input &input = *plan.add_inputs();
  input.set_name("ids");
  input.set_dtype(plan::I64);
  input.add_shape(4);
  *input.mutable_staging() = operand(Operand::READ, Ids, 0, 32).slice();
  plan::Metric &metric = *plan.add_metrics();
  metric.set_name("loss");
  metric.set_dtype(plan::F32);
  metric.set_program("micro_step");
  *metric.mutable_slice() = operand(Operand::READ, Loss, 0, 4).slice();
  plan::Output &output = *plan.mutable_programs(0)->add_outputs();
  output.set_name("z");
  output.set_dtype(plan::F32);
  output.add_shape(8);
  *output.mutable_slice() = operand(Operand::READ, Z, 0, 32).slice();
  return plan;
}

enum Cross : int { A, B, D, F };

/// a (lane 0) -> b (lane 1) -> f (lane 0), and d beside b. f's result takes the place of a's.
plan::Plan twoLanes() {
  PlanBuilder b;
  uint32_t step = b.arena(plan::Arena::STEP, 64);
  b.buffer("a", step, 0, 16);
  b.buffer("b", step, 16, 16);
  b.buffer("d", step, 32, 16);
  b.buffer("f", step, 0, 16);
  plan::Program &p = b.program("update");
  b.step(p, "a", 0, {operand(Operand::WRITE, 0, 0, 16)}, {}, 1);
  b.step(p, "b", 1, {operand(Operand::READ, 0, 0, 16), operand(Operand::WRITE, 1, 0, 16)}, {1}, 2);
  b.step(p, "d", 0, {operand(Operand::READ, 0, 0, 16), operand(Operand::WRITE, 2, 0, 16)});
  b.step(p, "f", 0,
         {operand(Operand::READ, 1, 0, 16), operand(Operand::READ, 2, 0, 16), operand(Operand::WRITE, 3, 0, 16)}, {2});
  return b.finish();
}

plan::Step &step(plan::Plan &plan, int index) {
  return *plan.mutable_programs(0)->mutable_steps(index);
}
plan::Slice &slice(plan::Plan &plan, int stepIndex, int operandIndex) {
  return *step(plan, stepIndex).mutable_operands(operandIndex)->mutable_slice();
}

/// The rules of memory and order, for plans that tests have changed by hand: kernels do what the steps now say.
Validation check(plan::Plan plan, const ValidatorOptions &options = {}) {
  declareKernelParameters(plan);
  return validate(plan, options);
}

std::string report(const Validation &validation) {
  Status status = validation.status();
  return status ? "no findings" : status.error().why;
}

/// Exactly one finding, of this rule, at this step (-1: none), that mentions all of `words`.
void expectOne(const plan::Plan &plan, Rule rule, int stepIndex, std::initializer_list<const char *> words) {
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 1u) << report(validation);
  const Finding &finding = validation.findings[0];
  EXPECT_EQ(ruleName(finding.rule), ruleName(rule)) << report(validation);
  EXPECT_EQ(finding.step, stepIndex);
  std::string text = finding.diagnostic.what + "\n" + finding.diagnostic.where + "\n" + finding.diagnostic.why;
  for (const char *word : words)
    EXPECT_NE(text.find(word), std::string::npos) << word << " is missing in:\n" << text;
}

TEST(Rules, AcceptsValidPlans) {
  EXPECT_TRUE(check(oneLane()).ok()) << report(check(oneLane()));
  EXPECT_TRUE(check(twoLanes()).ok()) << report(check(twoLanes()));
  EXPECT_TRUE(check(oneLane()).status().has_value());
}

TEST(Rules, BrokenStructureIsOneFinding) {
  plan::Plan plan = oneLane();
  slice(plan, StepY, 0).set_buffer(99);
  expectOne(plan, Rule::Structure, -1, {"99"});
}

TEST(Rules, PersistentBuffersOverlap) {
  plan::Plan plan = oneLane();
  plan.mutable_buffers(Mask)->set_bytes(36);
  expectOne(plan, Rule::Overlap, -1, {"\"loss\"", "\"mask\"", "[64, 68)", "[32, 68)"});
}

TEST(Rules, OverlapWithABufferBeforeTheLast) {
  PlanBuilder b;
  uint32_t state = b.arena(plan::Arena::STATE, 64), other = b.arena(plan::Arena::STATE, 64);
  b.buffer("long", state, 0, 48);
  b.buffer("inner", state, 8, 8);
  b.buffer("late", state, 40, 8);
  b.buffer("next", state, 48, 8);
  b.buffer("elsewhere", other, 0, 48);
  Validation validation = check(b.finish());
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation);
  EXPECT_EQ(validation.findings[0].diagnostic.what, "buffer \"inner\" overlaps buffer \"long\"");
  EXPECT_EQ(validation.findings[1].diagnostic.what, "buffer \"late\" overlaps buffer \"long\"");
}

TEST(Rules, StateTensorsOverlap) {
  plan::Plan plan = oneLane();
  plan::StateTensor &tensor = *plan.add_state();
  tensor = plan.state(0);
  tensor.set_name("w2");
  expectOne(plan, Rule::Overlap, -1, {"\"w\"", "\"w2\""});
}

TEST(Rules, StateTensorOfAnotherSize) {
  plan::Plan plan = oneLane();
  plan.mutable_state(0)->mutable_slice()->set_bytes(32);
  plan.mutable_state(0)->set_shape(0, 7);
  expectOne(plan, Rule::Shape, -1, {"\"w\"", "28", "32"});
}

TEST(Rules, GradientOfNothing) {
  plan::Plan plan = oneLane();
  plan.mutable_state(2)->set_of("mask"); // exists, but is no parameter
  expectOne(plan, Rule::Reference, -1, {"\"w.grad\"", "\"mask\""});
}

TEST(Rules, StateOutsideStateArenas) {
  plan::Plan plan = oneLane();
  plan.mutable_state(2)->set_kind(plan::StateTensor::CONTROL);
  expectOne(plan, Rule::Arena, -1, {"\"w.grad\"", "\"arena1\""});
}

TEST(Rules, InputsOverlapAndHaveNames) {
  plan::Plan plan = oneLane();
  *plan.add_inputs() = plan.inputs(0);
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation);
  EXPECT_EQ(validation.findings[0].rule, Rule::Reference);
  EXPECT_EQ(validation.findings[1].rule, Rule::Overlap);
}

TEST(Rules, StagingHoldsAllMicroBatches) {
  plan::Plan plan = oneLane();
  plan.mutable_inputs(0)->set_shape(0, 2);
  expectOne(plan, Rule::Shape, -1, {"\"ids\"", "16", "32"});
  plan.mutable_training()->set_accumulate(2);
  EXPECT_TRUE(check(plan).ok()) << report(check(plan));
}

TEST(Rules, MetricOfUnknownProgram) {
  plan::Plan plan = oneLane();
  plan.mutable_metrics(0)->set_program("evaluate");
  expectOne(plan, Rule::Reference, -1, {"metric \"loss\"", "\"evaluate\""});
}

TEST(Rules, SliceLargerThanShape) {
  plan::Plan plan = oneLane();
  step(plan, StepY).mutable_operands(2)->set_shape(0, 1);
  expectOne(plan, Rule::Shape, StepY, {"operand 2", "16", "32", "\"micro_step\""});
}

TEST(Rules, SignalRaisedTwice) {
  plan::Plan plan = twoLanes();
  step(plan, D).set_signal(1);
  expectOne(plan, Rule::Signal, D, {"signal 1", "\"a\""});
}

TEST(Rules, SignalNeverRaised) {
  plan::Plan plan = twoLanes();
  plan.mutable_programs(0)->set_signals(3);
  expectOne(plan, Rule::Signal, -1, {"raises 2 signals", "uses 3"});
}

TEST(Rules, WaitForNothing) {
  plan::Plan plan = twoLanes();
  step(plan, F).add_waits(3);
  plan.mutable_programs(0)->set_signals(3);
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation); // the count of signals, and the wait
  EXPECT_EQ(validation.findings[1].rule, Rule::Signal);
  EXPECT_EQ(validation.findings[1].step, F);
}

TEST(Rules, Deadlock) {
  plan::Plan plan = twoLanes();
  step(plan, A).add_waits(2); // a -> b -> a
  expectOne(plan, Rule::Deadlock, A, {"signal 2", "\"b\""});
  plan = twoLanes();
  step(plan, A).add_waits(1); // for itself
  expectOne(plan, Rule::Deadlock, A, {"signal 1"});
}

TEST(Rules, TooManyLanes) {
  plan::Plan plan = twoLanes();
  for (uint32_t lane = 2; lane < 65; ++lane)
    PlanBuilder::step(*plan.mutable_programs(0), "more", lane, {});
  expectOne(plan, Rule::Signal, -1, {"65 lanes"});
}

TEST(Rules, DroppedWaitIsARaceOfReadAfterWrite) {
  plan::Plan plan = twoLanes();
  step(plan, B).clear_waits();
  expectOne(plan, Rule::Race, B, {"reads buffer \"a\" [0, 16)", "step 0 \"a\"", "\"update\"", "[0, 16)"});
}

TEST(Rules, DroppedWaitIsARaceOfWriteAfterRead) {
  plan::Plan plan = twoLanes();
  step(plan, F).clear_waits();
  // f reads b's result too early, and overwrites what b reads.
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation);
  EXPECT_EQ(validation.findings[0].rule, Rule::Race);
  EXPECT_NE(validation.findings[0].diagnostic.what.find("reads buffer \"b\""), std::string::npos) << report(validation);
  EXPECT_NE(validation.findings[1].diagnostic.what.find("writes buffer \"f\""), std::string::npos)
      << report(validation);
}

TEST(Rules, RaceWithAnEarlierReaderOfAnotherLane) {
  // Two lanes read a; only one of them is waited for. The later reader must not hide the earlier one.
  plan::Plan plan = twoLanes();
  slice(plan, F, 0).set_buffer(2); // f no longer reads b, so that only the write after b's read is left
  step(plan, F).clear_waits();
  expectOne(plan, Rule::Race, F, {"writes buffer \"f\"", "step 1 \"b\"", "reads bytes [0, 16)"});
}

TEST(Rules, RaceOfTwoWrites) {
  plan::Plan plan = twoLanes();
  plan.mutable_buffers(2)->set_offset(16); // d over b, side by side
  Validation validation = check(plan);
  ASSERT_FALSE(validation.ok());
  EXPECT_EQ(validation.findings[0].rule, Rule::Race);
  EXPECT_EQ(validation.findings[0].step, D);
}

TEST(Rules, OrderIsTransitive) {
  // f waits for b only, b for a: that orders a before f even if f leaves lane 0, and d is then the one that races.
  plan::Plan plan = twoLanes();
  step(plan, F).set_lane(2);
  slice(plan, F, 1).set_buffer(1);
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 1u) << report(validation);
  EXPECT_EQ(validation.findings[0].rule, Rule::Race);
  EXPECT_NE(validation.findings[0].diagnostic.what.find("\"d\""), std::string::npos) << report(validation);
}

TEST(Rules, StepConflictsWithItself) {
  plan::Plan plan = oneLane();
  slice(plan, StepY, 3).set_buffer(Y);
  slice(plan, StepY, 3).set_offset(24);
  slice(plan, StepY, 3).set_bytes(8);
  Validation validation = check(plan); // and z reads the scratch
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation);
  EXPECT_EQ(validation.findings[0].rule, Rule::Race);
  EXPECT_EQ(validation.findings[0].step, StepY);
  EXPECT_NE(validation.findings[0].diagnostic.why.find("[56, 64)"), std::string::npos) << report(validation);
  EXPECT_EQ(validation.findings[1].rule, Rule::Undefined);
}

TEST(Rules, ReadingTwiceIsNoConflict) {
  plan::Plan plan = oneLane();
  *step(plan, StepZ).add_operands() = operand(Operand::READ, Y, 8, 8);
  EXPECT_TRUE(check(plan).ok()) << report(check(plan));
}

TEST(Rules, ReadOfNothing) {
  plan::Plan plan = oneLane();
  slice(plan, StepH, 2).set_bytes(28);
  expectOne(plan, Rule::Undefined, StepY, {"buffer \"h\" [28, 32)", "no step before"});
}

TEST(Rules, UpdateInPlaceOfNothing) {
  plan::Plan plan = oneLane();
  step(plan, StepH).mutable_operands(2)->set_access(Operand::READ_WRITE);
  expectOne(plan, Rule::Undefined, StepH, {"buffer \"h\" [0, 32)"});
}

TEST(Rules, ReadOfScratch) {
  plan::Plan plan = oneLane();
  slice(plan, StepZ, 0).set_buffer(Tmp);
  expectOne(plan, Rule::Undefined, StepZ, {"buffer \"tmp\" [0, 32)", "step 1 \"y\"", "scratch"});
}

TEST(Rules, ReadOfAnotherValue) {
  plan::Plan plan = oneLane();
  slice(plan, StepGrad, 0).set_buffer(H); // z has its bytes by then
  expectOne(plan, Rule::Foreign, StepGrad, {"buffer \"h\" [0, 32)", "step 2 \"z\"", "buffer \"z\" [0, 32)"});
}

TEST(Rules, OverwrittenInPart) {
  plan::Plan plan = oneLane();
  plan.mutable_buffers(Tmp)->set_offset(24); // scratch over the last 8 bytes of h and the first 24 of y
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 3u) << report(validation); // twice within the step, once for z
  EXPECT_EQ(validation.findings[0].rule, Rule::Race);
  EXPECT_EQ(validation.findings[1].rule, Rule::Race);
}

TEST(Rules, DeadBetweenPrograms) {
  plan::Plan plan = oneLane();
  plan::Program &p = *plan.add_programs();
  p.set_name("update");
  PlanBuilder::step(p, "reads z", 0, {operand(Operand::READ, Z, 0, 32)});
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 1u) << report(validation);
  EXPECT_EQ(validation.findings[0].rule, Rule::Undefined);
  EXPECT_EQ(validation.findings[0].program, 1);
}

TEST(Rules, OutputOverwritten) {
  plan::Plan plan = oneLane();
  PlanBuilder::step(*plan.mutable_programs(0), "last", 0, {operand(Operand::WRITE, H, 16, 4)});
  expectOne(plan, Rule::Output, -1, {"output \"z\"", "buffer \"z\" [16, 20)", "step 5 \"last\"", "buffer \"h\""});
}

TEST(Rules, OutputNeverWritten) {
  plan::Plan plan = oneLane();
  plan.mutable_programs(0)->mutable_outputs(0)->mutable_slice()->set_buffer(Tmp);
  expectOne(plan, Rule::Output, -1, {"output \"z\"", "scratch"});
}

TEST(Rules, GarbageInState) {
  plan::Plan plan = oneLane();
  step(plan, StepGrad).mutable_operands(1)->set_access(Operand::SCRATCH);
  expectOne(plan, Rule::Destroyed, StepGrad, {"buffer \"w.grad\" [0, 32)", "\"arena1\""});
  // A later write repairs it.
  PlanBuilder::step(*plan.mutable_programs(0), "again", 0, {operand(Operand::WRITE, Grad, 0, 32)});
  EXPECT_TRUE(check(plan).ok()) << report(check(plan));
}

TEST(Rules, FrozenTensorWritten) {
  plan::Plan plan = oneLane();
  step(plan, StepY).mutable_operands(1)->set_access(Operand::READ_WRITE);
  expectOne(plan, Rule::ReadOnly, StepY, {"\"mask\""});
}

TEST(Rules, CertificateOfAClass) {
  plan::Plan plan = oneLane();
  plan.mutable_certificate()->mutable_classes(2)->set_bytes(64);
  plan.mutable_certificate()->mutable_classes(0)->set_bytes(192); // so that the total holds
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation);
  EXPECT_EQ(validation.findings[1].rule, Rule::Certificate);
  EXPECT_NE(validation.findings[1].diagnostic.what.find("\"step\" 64"), std::string::npos) << report(validation);
}

TEST(Rules, CertificateTotal) {
  plan::Plan plan = oneLane();
  plan.mutable_certificate()->set_total(plan.certificate().total() + 1);
  expectOne(plan, Rule::Certificate, -1, {"total is 321", "add up to 320"});
}

TEST(Rules, CertificateLowerBound) {
  plan::Plan plan = oneLane();
  plan.mutable_certificate()->set_live_lower_bound(128);
  EXPECT_TRUE(check(plan).ok());
  plan.mutable_certificate()->set_live_lower_bound(129);
  expectOne(plan, Rule::Certificate, -1, {"129", "128"});
}

TEST(Rules, CertificateClassMissingOrUnknown) {
  plan::Plan plan = oneLane();
  plan.mutable_certificate()->mutable_classes(2)->set_name("steps");
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 2u) << report(validation);
  EXPECT_NE(validation.findings[0].diagnostic.what.find("\"step\" 0 times"), std::string::npos) << report(validation);
  EXPECT_NE(validation.findings[1].diagnostic.what.find("\"steps\""), std::string::npos) << report(validation);
}

TEST(Rules, FindingsAreBoundedAndCounted) {
  plan::Plan plan = oneLane();
  for (int i = 0; i < 30; ++i)
    PlanBuilder::step(*plan.mutable_programs(0), "bad", 0, {operand(Operand::READ, Tmp, 0, 4)});
  Validation validation = check(plan, {.limit = 5});
  EXPECT_EQ(validation.findings.size(), 5u);
  EXPECT_EQ(validation.omitted, 25u);
  std::string text = report(validation);
  EXPECT_NE(validation.status().error().what.find("30 findings"), std::string::npos);
  EXPECT_NE(text.find("and 25 more"), std::string::npos) << text;
}

TEST(Rules, NamesArePrintedSafely) {
  plan::Plan plan = oneLane();
  plan.mutable_buffers(Tmp)->set_name(std::string("\x1b[2J\n") + std::string(1000, 'x'));
  slice(plan, StepZ, 0).set_buffer(Tmp);
  Validation validation = check(plan);
  ASSERT_EQ(validation.findings.size(), 1u);
  std::string what = validation.findings[0].diagnostic.what;
  EXPECT_EQ(what.find('\x1b'), std::string::npos);
  EXPECT_LT(what.size(), 400u);
}

} // namespace
