//===- InspectModelTest.cpp - moec inspect on models --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/ModelCommand.h"
#include "ir/Ops.h"
#include "mlir/Parser/Parser.h"
#include "test/frontend/onnx/TestModel.h"
#include "test/runtime/TestFiles.h"
#include "test/tools/moec/CommandOutcome.h"
#include "tools/moec/InspectCommand.h"
#include "tools/moec/InspectPrograms.h"

#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

Outcome inspect(const std::vector<std::string> &words) {
  return runCommand(tools::runInspectCommand, words);
}

const Json *named(const Json &list, const std::string &name) {
  for (const Json &entry : list)
    if (entry["name"] == name)
      return &entry;
  return nullptr;
}

/// Two layers of width 8, the second one with four experts.
class Preset : public testing::Test {
protected:
  void SetUp() override {
    path = (folder.path() / "model.moe").string();
    const Outcome made = runCommand(models::runModelCommand, {"transformer_lm_gpt",
                                                              "--decoder-layers",
                                                              "2",
                                                              "--decoder-embed-dim",
                                                              "8",
                                                              "--decoder-ffn-embed-dim",
                                                              "12",
                                                              "--decoder-attention-heads",
                                                              "2",
                                                              "--tokens-per-sample",
                                                              "6",
                                                              "--moe-freq",
                                                              "2",
                                                              "--moe-expert-count",
                                                              "4",
                                                              "--vocab-size",
                                                              "11",
                                                              "--decoder-learned-pos",
                                                              "-o",
                                                              path});
    ASSERT_EQ(made.code, 0) << made.err;
  }
  TemporaryFolder folder;
  std::string path;
};

} // namespace

// Catches: what needs bindings asked for without them; parameters left out; experts by their names' accident.
TEST_F(Preset, NeedsNoBindingsForWhatTheFileSays) {
  const Outcome outcome = inspect({path, "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = outcome.json();
  EXPECT_EQ(json["kind"], "model");
  EXPECT_EQ(json["preset"], "transformer_lm_gpt");
  ASSERT_EQ(json["inputs"].size(), 2u);
  EXPECT_EQ(json["inputs"][0], Json({{"name", "input_ids"}, {"dtype", "int64"}, {"shape", {"batch", "seq"}}}));
  EXPECT_EQ(json["inputs"][1]["name"], "labels");
  const Json *logits = named(json["outputs"], "logits");
  ASSERT_NE(logits, nullptr);
  EXPECT_EQ((*logits)["shape"], Json({"batch", "seq", 11}));
  EXPECT_EQ((*logits)["dtype"], "float32");
  ASSERT_NE(named(json["outputs"], "loss"), nullptr);
  ASSERT_NE(named(json["outputs"], "aux_loss"), nullptr);

  // Experts: fc1 [4, 12, 8] and fc2 [4, 8, 12] with their biases.
  constexpr int64_t kExperts = 4 * (12 * 8 + 12 + 8 * 12 + 8);
  EXPECT_EQ(json["counts"]["in_experts"], kExperts);
  const Json *fc1 = named(json["parameters"], "decoder.layers.1.moe_layer.experts.fc1.weight");
  ASSERT_NE(fc1, nullptr);
  EXPECT_EQ((*fc1)["shape"], Json({4, 12, 8}));
  EXPECT_EQ((*fc1)["dtype"], "float32");
  EXPECT_EQ((*fc1)["expert"], true);
  EXPECT_EQ((*fc1)["kind"], "trained");
  EXPECT_EQ((*fc1)["initial"]["kind"], "uniform");
  const Json *norm = named(json["parameters"], "decoder.layers.0.self_attn_layer_norm.weight");
  ASSERT_NE(norm, nullptr);
  EXPECT_EQ((*norm)["expert"], false);
  EXPECT_EQ((*norm)["initial"], Json({{"kind", "constant"}, {"value", 1.0}}));

  // Per layer: four projections, two norms; a dense feed-forward or gate and experts; embedding, its untied
  // projection, positions and the last norm.
  constexpr int64_t kLayer = 4 * (8 * 8 + 8) + 2 * 2 * 8, kDense = 12 * 8 + 12 + 8 * 12 + 8, kGate = 4 * 8;
  int64_t positions = 0;
  if (const Json *table = named(json["parameters"], "decoder.embed_positions.weight"))
    positions = (*table)["shape"][0].get<int64_t>() * 8;
  EXPECT_GT(positions, 0);
  EXPECT_EQ(json["counts"]["trained"], 2 * 11 * 8 + positions + 2 * kLayer + kDense + kGate + kExperts + 2 * 8);
  EXPECT_EQ(json["routing_groups"], 1);
  EXPECT_FALSE(json.contains("programs"));
  EXPECT_EQ(json["problems"], Json::array());
}

// Catches: what passes say printed as MLIR prints it, without the reasons and remedies in their notes.
TEST_F(Preset, SaysHowToNameTheLoss) {
  const Outcome outcome =
      inspect({path, "--bind", "batch=4", "--bind", "seq=6", "--set", "loss.output=cost", "--json"});
  EXPECT_NE(outcome.code, 0);
  const Json problems = outcome.json()["problems"];
  ASSERT_EQ(problems.size(), 1u) << problems;
  EXPECT_EQ(problems[0]["kind"], "gradient");
  EXPECT_EQ(problems[0]["where"], "forward");
  EXPECT_EQ(problems[0]["why"], "");
  EXPECT_NE(problems[0]["what"].get<std::string>().find("no output 'cost'"), std::string::npos) << problems;
  EXPECT_EQ(problems[0]["remedy"].get<std::string>().find("--set loss.output=NAME"), 0u) << problems;
}

// Catches: programs with the sizes of the other one; coarse operations that were taken apart; coverage not walked.
TEST_F(Preset, ShowsProgramsOnceSizesAreBound) {
  const Outcome outcome = inspect(
      {path, "--bind", "batch=4", "--bind", "seq=6", "--bind", "eval.batch=2", "--set", "routing_groups=2", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json json = outcome.json();
  EXPECT_EQ(json["routing_groups"], 2);
  EXPECT_EQ(json["coverage"], Json::array());
  for (const char *program : {"forward", "eval"}) {
    const Json &said = json["programs"][program];
    EXPECT_EQ(said["moe_layers"], 1) << said;
    EXPECT_EQ(said["coarse"]["attention"], 2) << said;
    EXPECT_EQ(said["coarse"]["layer_norm"], 5) << said;
    EXPECT_EQ(said["coarse"]["softmax_cross_entropy"], 1) << said;
  }
  // Experts in their own capacity aside, half the tokens are half the work.
  const double ratio =
      json["programs"]["forward"]["flops"].get<double>() / json["programs"]["eval"]["flops"].get<double>();
  EXPECT_GT(ratio, 1.5);

  const Outcome text = inspect({path, "--bind", "batch=4", "--bind", "seq=6"});
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char *expected : {"int64 [batch, seq]", "program forward", "program eval", "2 attention", "uniform("})
    EXPECT_NE(text.out.find(expected), std::string::npos) << expected << "\n" << text.out;
}

// Catches: a report that is lost because the programs cannot be made.
TEST_F(Preset, SaysWhatHindersACompilation) {
  const Outcome unbound = inspect({path, "--bind", "batch=4", "--json"});
  EXPECT_EQ(unbound.code, 1);
  EXPECT_NE(unbound.err.find("add --bind seq=N"), std::string::npos) << unbound.err;
  EXPECT_EQ(unbound.json()["inputs"].size(), 2u);
  EXPECT_NE(unbound.json()["problems"].dump().find("'seq' is not bound"), std::string::npos);

  EXPECT_EQ(inspect({path, "--bind", "batch"}).code, 2);
  EXPECT_EQ(inspect({path, "--steps", "forward"}).code, 2);
  const Outcome recipe = inspect({path, "--set", "clip_nrm=1"});
  EXPECT_EQ(recipe.code, 1);
  EXPECT_NE(recipe.err.find("clip_norm"), std::string::npos) << recipe.err;
}

TEST_F(Preset, DamagedModelsAreErrors) {
  const std::string whole = readFile(path);
  const Outcome outcome = inspect({folder.write("half.onnx", whole.substr(0, whole.size() / 2)).string(), "--json"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.err.find("not an ONNX model"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(inspect({folder.write("empty.onnx", "").string()}).code, 1);
}

// Catches: gaps one at a time; parameters of foreign files taken for frozen though nothing says so.
TEST(InspectForeign, ListsAllGapsAndWhatIsUnknown) {
  TestModel m;
  m.input("x", {2, 3});
  m.output("y");
  m.weight("w", {2, 3}, floatRamp(6));
  m.nodes.addNode("", "NonMaxSuppression", {"x", "x"}, {"first"});
  m.nodes.addNode("com.example", "Magic", {"w"}, {"second"});
  m.nodes.add("Add", {"first", "second"}, "y");
  m.write();
  // All shapes are known: no bindings are needed for the programs.
  const Outcome outcome = inspect({m.path(), "--json"});
  EXPECT_EQ(outcome.code, 1);
  const Json json = outcome.json();
  // Whether there are experts is for the program to say, which could not be imported.
  EXPECT_TRUE(json["counts"]["in_experts"].is_null()) << json["counts"];
  const Json *weight = named(json["parameters"], "w");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ((*weight)["kind"], "unknown");
  EXPECT_EQ((*weight)["initial"]["kind"], "data");
  int gaps = 0;
  for (const Json &problem : json["problems"])
    gaps += problem["what"].get<std::string>().find("cannot import node") == 0 ? 1 : 0;
  EXPECT_EQ(gaps, 2) << json["problems"];
  EXPECT_NE(outcome.err.find("com.example.Magic"), std::string::npos) << outcome.err;

  EXPECT_TRUE(json["outputs"][0]["shape"].is_null()) << json["outputs"];
  EXPECT_NE(inspect({m.path()}).out.find("of unknown shape"), std::string::npos);

  const Json told = inspect({m.path(), "--set", "parameters.default=train", "--json"}).json();
  EXPECT_EQ((*named(told["parameters"], "w"))["kind"], "trained");
}

// Catches: planned lowerings that are not found, or found in what is decomposed before code is made.
TEST(InspectCoverage, NamesWhatHasNoLowering) {
  mlir::MLIRContext context;
  context.loadDialect<ir::MoeDialect, mlir::func::FuncDialect>();
  mlir::OwningOpRef<mlir::ModuleOp> module = mlir::parseSourceString<mlir::ModuleOp>(R"(
    func.func @forward(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
      %c = moe.cumsum %x {dim = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32>
      %a = moe.neg %c : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("here")
      %b = moe.neg %a : (tensor<2x3xf32>) -> tensor<2x3xf32>
      return %b : tensor<2x3xf32>
    })",
                                                                                     &context);
  ASSERT_TRUE(module);
  nlohmann::ordered_json coverage = nlohmann::ordered_json::array();
  tools::addPlannedLowerings(*module, coverage);
  EXPECT_TRUE(coverage.empty()) << coverage;
  // A table in which both say `planned`; cumsum is decomposed before.
  tools::addPlannedLowerings(*module, coverage, [](ir::MoeOpInterface op) -> llvm::StringRef {
    return mlir::isa<ir::NegOp, ir::CumsumOp>(op.getOperation()) ? "planned: for a test" : "yes";
  });
  ASSERT_EQ(coverage.size(), 1u) << coverage;
  EXPECT_EQ(coverage[0]["op"], "neg");
  EXPECT_EQ(coverage[0]["where"], "here");
  EXPECT_EQ(coverage[0]["why"].get<std::string>().find("planned"), 0u);

  const nlohmann::ordered_json programs = tools::describePrograms(*module);
  EXPECT_EQ(programs["forward"]["fine"]["neg"], 2);
}
