//===- InspectPlanTest.cpp - moec inspect and moec graph on plans -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/TestFiles.h"
#include "test/runtime/plan/PlanBuilder.h"
#include "test/tools/moec/CommandOutcome.h"
#include "test/tools/moec/DotReader.h"
#include "tools/moec/GraphCommand.h"
#include "tools/moec/InspectCommand.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

class PlanOnDisk : public testing::Test {
protected:
  void SetUp() override {
    file = everyKindOfRecord();
    plan::Plan &plan = file.plan;
    plan.mutable_header()->mutable_model()->set_path("somewhere/model.onnx");
    plan.mutable_header()->mutable_model()->set_digest(0xabc);
    plan.mutable_header()->set_recipe("clip_norm: 0.5\n");
    plan.mutable_header()->set_routing_groups(3);
    plan.mutable_target()->add_features("avx2");
    plan.mutable_kernels(0)->set_emitter("row_reduce");
    plan.mutable_metrics(0)->set_program("update");
    plan.mutable_state(0)->mutable_initial()->mutable_normal()->set_stddev(0.25);
    // The index of the copy is a state with a name.
    plan::StateTensor &counter = *plan.add_state();
    counter.set_name("control.counter");
    counter.set_kind(plan::StateTensor::CONTROL);
    counter.set_dtype(plan::I64);
    *counter.mutable_slice() = plan.programs(0).steps(8).operands(2).slice();
    // The name lies: what counts is what is inside.
    path = (folder.path() / "plan.onnx").string();
    ASSERT_TRUE(file.write(path));
  }
  Outcome inspect(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), path);
    return runCommand(tools::runInspectCommand, flags);
  }
  Outcome graph(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), path);
    return runCommand(tools::runGraphCommand, flags);
  }

  TemporaryFolder folder;
  PlanFile file;
  std::string path;
};

} // namespace

// Catches: the kind of a file by its name; fields of the wrong record.
TEST_F(PlanOnDisk, JsonSaysWhatIsInIt) {
  const Outcome outcome = inspect({"--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = outcome.json();
  EXPECT_EQ(json["kind"], "plan");
  EXPECT_EQ(json["producer"], "test");
  EXPECT_EQ(json["model"]["path"], "somewhere/model.onnx");
  EXPECT_EQ(json["model"]["digest"], "0000000000000abc");
  EXPECT_EQ(json["recipe"], "clip_norm: 0.5\n");
  EXPECT_EQ(json["routing_groups"], 3);
  EXPECT_EQ(json["target"]["features"], Json({"avx2"}));
  ASSERT_EQ(json["inputs"].size(), 1u);
  EXPECT_EQ(json["inputs"][0]["name"], "tokens");
  EXPECT_EQ(json["inputs"][0]["dtype"], "int64");
  EXPECT_EQ(json["inputs"][0]["shape"], Json({5}));
  ASSERT_EQ(json["outputs"].size(), 1u);
  EXPECT_EQ(json["outputs"][0]["name"], "logits");
  EXPECT_EQ(json["outputs"][0]["program"], "micro_step");
  ASSERT_EQ(json["parameters"].size(), 1u);
  EXPECT_EQ(json["parameters"][0]["name"], "weight");
  EXPECT_EQ(json["parameters"][0]["shape"], Json({3, 4}));
  EXPECT_EQ(json["parameters"][0]["dtype"], "float32");
  EXPECT_EQ(json["parameters"][0]["kind"], "trained");
  EXPECT_EQ(json["parameters"][0]["initial"]["stddev"], 0.25);
  EXPECT_EQ(json["parameters"][0]["initial"]["zero_rows"], Json({2}));
  EXPECT_EQ(json["state"]["trained"], Json({{"tensors", 1}, {"elements", 12}, {"bytes", 48}}));
  EXPECT_EQ(json["metrics"][0]["program"], "update");
  EXPECT_EQ(json["kernels"][0]["emitter"], "row_reduce");
  EXPECT_EQ(json["kernels"][0]["steps"], 1);
  EXPECT_EQ(json["report"]["programs"]["micro_step"]["steps"], 11);
  EXPECT_EQ(json["report"]["programs"]["micro_step"]["kinds"]["attention"], 1);
  EXPECT_EQ(json["report"]["programs"]["micro_step"]["kinds"]["attention_backward"], 1);
}

// Catches: a part of the report that text leaves out.
TEST_F(PlanOnDisk, TextSaysTheSame) {
  const Outcome outcome = inspect();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char *expected :
       {"somewhere/model.onnx", "0000000000000abc", "avx2", "int64 [5]", "float32 [8]", "micro_step: 11 steps",
        "1 tensors, 12 elements, 48 B", "loss", "row_reduce", "  clip_norm: 0.5", "memory per rank"})
    EXPECT_NE(outcome.out.find(expected), std::string::npos) << expected << "\n" << outcome.out;
}

// Catches: steps left out or in another order; operands of another step; waits and signals mixed up.
TEST_F(PlanOnDisk, StepsListEveryStepWithItsOperands) {
  const Outcome outcome = inspect({"--steps", "micro_step", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json steps = outcome.json()["steps"];
  const plan::Program &program = file.plan.programs(0);
  ASSERT_EQ(steps.size(), static_cast<size_t>(program.steps_size()));
  std::vector<std::string> kinds;
  for (int i = 0; i < program.steps_size(); ++i) {
    const plan::Step &step = program.steps(i);
    const Json &said = steps[static_cast<size_t>(i)];
    EXPECT_EQ(said["index"], i);
    EXPECT_EQ(said["name"], step.name());
    kinds.push_back(said["kind"]);
    ASSERT_EQ(said["operands"].size(), static_cast<size_t>(step.operands_size()));
    for (int k = 0; k < step.operands_size(); ++k) {
      const Json &operand = said["operands"][static_cast<size_t>(k)];
      EXPECT_EQ(operand["buffer"], "b" + std::to_string(step.operands(k).slice().buffer()));
      EXPECT_EQ(operand["buffer_index"], step.operands(k).slice().buffer());
      EXPECT_EQ(operand["offset"], step.operands(k).slice().offset());
      EXPECT_EQ(operand["bytes"], step.operands(k).slice().bytes());
      EXPECT_EQ(operand["shape"].size(), static_cast<size_t>(step.operands(k).shape_size()));
    }
  }
  EXPECT_EQ(kinds,
            (std::vector<std::string>{"kernel", "gemm", "attention", "attention_backward", "route", "route_backward",
                                      "scatter_add", "fill", "copy", "grouped_gemm", "grouped_gemm_weight_grad"}));
  EXPECT_EQ(steps[0]["kernel"], "kernel0");
  EXPECT_EQ(steps[0]["signal"], 1);
  EXPECT_EQ(steps[0]["waits"], Json::array());
  EXPECT_EQ(steps[7]["waits"], Json({1}));
  EXPECT_EQ(steps[8]["operands"][0]["access"], "read");
  EXPECT_EQ(steps[8]["operands"][0]["arena"], "state");
  EXPECT_EQ(steps[8]["operands"][1]["access"], "write");
  EXPECT_FALSE(steps[8]["operands"][0].contains("state"));
  EXPECT_EQ(steps[8]["operands"][2]["state"], "control.counter");

  const Outcome text = inspect({"--steps", "micro_step"});
  ASSERT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("7  fill  fill  lane 0  waits [1]\n      write  "), std::string::npos) << text.out;
}

TEST_F(PlanOnDisk, WrongUseNamesWhatIsRight) {
  Outcome outcome = inspect({"--steps", "micro_stop"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("its programs are micro_step"), std::string::npos) << outcome.err;
  EXPECT_EQ(inspect({"--bind", "batch=4"}).code, 2);
  EXPECT_EQ(inspect({"--recipe", "r.yaml"}).code, 2);
  EXPECT_EQ(inspect({"second"}).code, 2);
  EXPECT_EQ(inspect({"--jsno"}).code, 2);
  EXPECT_EQ(runCommand(tools::runInspectCommand, {}).code, 2);

  outcome = graph({"--program", "update"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("its programs are micro_step"), std::string::npos) << outcome.err;
  outcome = graph({"--format", "png"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("dot"), std::string::npos) << outcome.err;
  for (const char *format : {"html", "trace"}) {
    outcome = graph({"--format", format});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.err.find("planned"), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

// Catches: reading a damaged plan as a model, or without its checks.
TEST_F(PlanOnDisk, DamageIsNamed) {
  const std::string whole = readFile(path);
  auto says = [&](const std::string &contents, const std::string &expected) {
    path = folder.write("damaged", contents).string();
    for (const Outcome &outcome : {inspect({"--json"}), graph()}) {
      EXPECT_EQ(outcome.code, 1);
      EXPECT_NE(outcome.err.find(expected), std::string::npos) << outcome.err;
      EXPECT_EQ(outcome.out, "");
    }
  };
  says(whole.substr(0, whole.size() / 2), "damaged");
  says(whole.substr(0, 5), "plan");
  std::string altered = whole;
  altered[100] = static_cast<char>(altered[100] ^ 1);
  says(altered, "damaged");
  // Well written, but a step speaks of a buffer that does not exist.
  PlanFile wrong = file;
  wrong.plan.mutable_programs(0)->mutable_steps(0)->mutable_operands(0)->mutable_slice()->set_buffer(999);
  ASSERT_TRUE(wrong.write(folder.path() / "wrong"));
  says(readFile(folder.path() / "wrong"), "999");
}

TEST_F(PlanOnDisk, UnreadableFilesAreErrors) {
  for (const std::string &missing : {(folder.path() / "missing").string(), folder.path().string()}) {
    path = missing;
    for (const Outcome &outcome : {inspect(), graph()}) {
      EXPECT_EQ(outcome.code, 1);
      EXPECT_NE(outcome.err.find(missing), std::string::npos) << outcome.err;
    }
  }
}

// Catches: output that goes astray; another program than the one asked for.
TEST_F(PlanOnDisk, GraphGoesWhereItIsToldTo) {
  const Outcome printed = graph();
  ASSERT_EQ(printed.code, 0) << printed.err;
  DotGraph read;
  std::string problem;
  ASSERT_TRUE(readDot(printed.out, read, problem)) << problem;
  EXPECT_EQ(read.name, "micro_step");
  EXPECT_EQ(read.nodes.size(), 11u);

  const std::string target = (folder.path() / "graph.dot").string();
  const Outcome written = graph({"--program", "micro_step", "--format", "dot", "-o", target});
  ASSERT_EQ(written.code, 0) << written.err;
  EXPECT_EQ(written.out, "");
  EXPECT_EQ(readFile(target), printed.out);

  const Outcome refused = graph({"-o", (folder.path() / "none" / "graph.dot").string()});
  EXPECT_EQ(refused.code, 1);
  EXPECT_NE(refused.err.find("cannot write"), std::string::npos) << refused.err;
}
