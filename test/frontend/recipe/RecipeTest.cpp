//===- RecipeTest.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/recipe/Recipe.h"
#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::frontend;

namespace {

std::vector<Diagnostic> errors(const std::string &text, const std::vector<std::string> &overrides = {}) {
  std::vector<Diagnostic> diagnostics;
  EXPECT_FALSE(parseRecipe(text, "r.yaml", overrides, diagnostics).has_value()) << text;
  return diagnostics;
}

Recipe parse(const std::string &text, const std::vector<std::string> &overrides = {}) {
  std::vector<Diagnostic> diagnostics;
  std::optional<Recipe> recipe = parseRecipe(text, "r.yaml", overrides, diagnostics);
  for (const Diagnostic &diagnostic : diagnostics)
    ADD_FAILURE() << diagnostic.str();
  return recipe.value_or(Recipe());
}

TEST(Recipe, DefaultsOfAnEmptyFile) {
  for (const char *text : {"", "\n# nothing\n", "{}"}) {
    Recipe recipe = parse(text);
    EXPECT_EQ(recipe.loss.output, "loss");
    EXPECT_FALSE(recipe.loss.crossEntropy.has_value());
    EXPECT_EQ(recipe.optimizer.name, OptimizerName::AdamW);
    EXPECT_EQ(recipe.optimizer.lr, 1e-3);
    EXPECT_EQ(recipe.optimizer.beta1, 0.9);
    EXPECT_EQ(recipe.optimizer.beta2, 0.999);
    EXPECT_EQ(recipe.optimizer.eps, 1e-8);
    EXPECT_EQ(recipe.optimizer.weightDecay, 0.01);
    EXPECT_EQ(recipe.schedule.name, ScheduleName::Constant);
    EXPECT_EQ(recipe.clipNorm, 0.0);
    EXPECT_EQ(recipe.accumulate, 1);
    EXPECT_EQ(recipe.seed, 1);
    EXPECT_EQ(recipe.routingGroups, 0);
  }
}

TEST(Recipe, JsonInsideYaml) {
  Recipe recipe =
      parse("optimizer: {\"name\": \"fairseq_adam\", \"lr\": 0.002, \"betas\": [0.9, 0.98], \"eps\": 1e-08, "
            "\"weight_decay\": 0.0}\nschedule: {\"name\": \"polynomial_decay\", \"warmup_updates\": 3, "
            "\"total_updates\": 12, \"power\": 1.0}\nclip_norm: 1.0\naccumulate: 2\nrouting_groups: 4\n"
            "seed: 1\n");
  EXPECT_EQ(recipe.optimizer.name, OptimizerName::FairseqAdam);
  EXPECT_EQ(recipe.optimizer.beta2, 0.98);
  EXPECT_EQ(recipe.optimizer.weightDecay, 0.0);
  EXPECT_EQ(recipe.schedule.name, ScheduleName::PolynomialDecay);
  EXPECT_EQ(recipe.schedule.totalUpdates, 12);
  EXPECT_EQ(recipe.clipNorm, 1.0);
  EXPECT_EQ(recipe.accumulate, 2);
  EXPECT_EQ(recipe.routingGroups, 4);
}

TEST(Recipe, OnlyAdamWDecaysByDefault) {
  EXPECT_EQ(parse("optimizer: {name: adam}").optimizer.weightDecay, 0.0);
  EXPECT_EQ(parse("optimizer: {lr: 0.1}").optimizer.weightDecay, 0.01);
  EXPECT_EQ(parse("optimizer: {weight_decay: 0.5, name: sgd}").optimizer.weightDecay, 0.5);
}

TEST(Recipe, UnknownKeyNamesPlaceAndNearest) {
  std::vector<Diagnostic> found = errors("seed: 1\noptimizer:\n  lrr: 1\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].what, "unknown key 'optimizer.lrr'");
  EXPECT_EQ(found[0].where, "r.yaml:3:8");
  EXPECT_EQ(found[0].remedy, "did you mean 'lr'?");
  // Data are no part of a recipe, and no word for them is near another key.
  found = errors("data: {path: tokens.bin}\n");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].remedy.find("moerun train PLAN --data FILE"), std::string::npos) << found[0].remedy;
}

TEST(Recipe, AllErrorsAtOnce) {
  std::vector<Diagnostic> found =
      errors("optimiser: {lr: 1}\nseed: x\nclip_norm: -1\nschedule: {name: cosin, warmup_updates: 1.5}\n");
  ASSERT_EQ(found.size(), 5u);
  EXPECT_EQ(found[0].remedy, "did you mean 'optimizer'?");
  EXPECT_EQ(found[1].where, "r.yaml:2:7");
  EXPECT_NE(found[2].what.find("out of range"), std::string::npos);
  EXPECT_EQ(found[3].remedy, "did you mean 'cosine'?");
  EXPECT_NE(found[4].what.find("integer"), std::string::npos);
}

TEST(Recipe, BrokenYaml) {
  EXPECT_EQ(errors("a: [1, 2").size(), 1u);
  EXPECT_EQ(errors("seed: 1\nseed: 2\n").front().where, "r.yaml:2:1");
  EXPECT_EQ(errors("- 1\n- 2\n").size(), 1u);
  EXPECT_EQ(errors("seed: 1\n---\nseed: 2\n").size(), 1u);
  std::string deep;
  for (int i = 0; i < 1000; ++i)
    deep += "{a: ";
  EXPECT_EQ(errors(deep).size(), 1u);
}

TEST(Recipe, OverridesWin) {
  Recipe recipe = parse("optimizer: {lr: 0.1}\n",
                        {"optimizer.lr=1e-4", "optimizer.betas=[0.8, 0.7]", "seed=7", "parameters.freeze=[\"a*\"]"});
  EXPECT_EQ(recipe.optimizer.lr, 1e-4);
  EXPECT_EQ(recipe.optimizer.beta1, 0.8);
  EXPECT_EQ(recipe.seed, 7);
  EXPECT_EQ(recipe.parameters.freeze, std::vector<std::string>{"a*"});
  std::vector<Diagnostic> found = errors("", {"optimizer.speed=1"});
  EXPECT_EQ(found.front().where, "--set optimizer.speed");
  EXPECT_EQ(errors("", {"nonsense"}).front().code, ExitCode::Usage);
}

TEST(Recipe, SchedulesThatCannotWork) {
  EXPECT_EQ(errors("schedule: {name: cosine, warmup_updates: 5, total_updates: 5}").size(), 1u);
  EXPECT_EQ(errors("schedule: {name: inverse_sqrt}").size(), 1u);
  EXPECT_EQ(parse("schedule: {name: fixed}").schedule.name, ScheduleName::Fixed);
  EXPECT_EQ(errors("schedule: {name: wsd, warmup_updates: 2, total_updates: 5}").size(), 1u);
  EXPECT_EQ(errors("schedule: {name: wsd, warmup_updates: 2, total_updates: 5, decay_updates: 4}").size(), 1u);
  EXPECT_EQ(errors("schedule: {name: cosine, total_updates: 5, decay_updates: 2}").size(), 1u);
  EXPECT_EQ(errors("schedule: {name: linear, total_updates: 5, power: 2}").size(), 1u);
}

TEST(Recipe, WarmupStableDecayAndAliases) {
  Recipe recipe = parse("schedule: {name: warmup_stable_decay, warmup_updates: 2, total_updates: 9, decay_updates: 7, "
                        "decay: 1-sqrt}");
  EXPECT_EQ(recipe.schedule.name, ScheduleName::WarmupStableDecay);
  EXPECT_EQ(recipe.schedule.decay, DecayShape::OneMinusSqrt);
  EXPECT_NE(print(recipe).find("decay_updates: 7, decay: 1-sqrt}"), std::string::npos);
  EXPECT_EQ(print(parse(print(recipe))), print(recipe));
  EXPECT_EQ(parse("schedule: {name: linear, total_updates: 5}").schedule.name, ScheduleName::PolynomialDecay);
}

TEST(Recipe, Ties) {
  Recipe recipe = parse("tie: [[a, b], [a, c^T]]");
  ASSERT_EQ(recipe.tie.size(), 2u);
  EXPECT_EQ(recipe.tie[1].target, "c");
  EXPECT_TRUE(recipe.tie[1].transposed);
  EXPECT_EQ(errors("tie: [[a, b], [b, c]]").size(), 1u);
  EXPECT_EQ(errors("tie: [[a, a]]").size(), 1u);
  EXPECT_EQ(errors("tie: [[a]]").size(), 1u);
}

TEST(Recipe, PrintsCanonically) {
  for (const char *text :
       {"",
        "loss: {cross_entropy: {logits: \"a: b\", ignore_index: 3, label_smoothing: 0.1}}\nprecision: {compute: bf16}",
        "optimizer: {name: sgd, lr: 0.30000000000000004, momentum: 0.9}\ntie: [[a, \"b^T\"]]\nparameters: {default: "
        "freeze, train: [x, \"y*\"]}\nclip_norm: 1e-30"}) {
    std::string printed = print(parse(text));
    EXPECT_EQ(print(parse(printed)), printed) << printed;
  }
  EXPECT_EQ(parse(print(parse("optimizer: {lr: 0.30000000000000004}"))).optimizer.lr, 0.30000000000000004);
}

/// Cross-entropy with and without smoothing against the formula; the ignored row counts nowhere.
TEST(Recipe, CrossEntropyInTheGraph) {
  constexpr const char *kModule = R"(
    func.func @forward(%x: tensor<3x4xf32> {moe.name = "x"}, %y: tensor<3xi64> {moe.name = "y"})
        -> (tensor<3x4xf32> {moe.name = "out"}) attributes {moe.program = "forward"} {
      return %x : tensor<3x4xf32>
    })";
  const std::vector<double> x = {0.5, -1, 2, 0, 1, 1, 1, 1, -3, 0, 0.25, 4};
  const std::vector<int64_t> y = {2, 9, 0};
  for (double smoothing : {0.0, 0.25}) {
    mlir::MLIRContext context;
    context.loadDialect<ir::MoeDialect, mlir::func::FuncDialect>();
    mlir::OwningOpRef<mlir::ModuleOp> module = mlir::parseSourceString<mlir::ModuleOp>(kModule, &context);
    ASSERT_TRUE(module);
    Recipe recipe = parse("loss: {cross_entropy: {logits: out, labels: y, ignore_index: 9, label_smoothing: " +
                          std::to_string(smoothing) + "}}");
    Status status = applyLoss(*module, recipe);
    ASSERT_TRUE(status.has_value()) << status.error().str();
    auto function = module->lookupSymbol<mlir::func::FuncOp>("forward");
    ASSERT_EQ(function.getNumResults(), 3u);
    EXPECT_EQ(function.getResultAttrOfType<mlir::StringAttr>(0, "moe.name"), "loss");
    EXPECT_EQ(function.getResultAttrOfType<mlir::StringAttr>(2, "moe.name"), "loss_weight");

    std::vector<ir::HostTensor> inputs;
    for (mlir::Type type : function.getArgumentTypes())
      inputs.emplace_back(llvm::cast<mlir::RankedTensorType>(type));
    inputs[0].floats = x;
    inputs[1].ints = y;
    ir::InterpreterState state(*module);
    auto results = ir::interpret(*module, "forward", inputs, state);
    ASSERT_TRUE(llvm::succeeded(results));
    double expected = 0;
    for (int row : {0, 2}) {
      double total = 0, mean = 0;
      for (int c = 0; c < 4; ++c) {
        total += std::exp(x[row * 4 + c]);
        mean += x[row * 4 + c] / 4;
      }
      double label = std::log(total) - x[row * 4 + y[row]];
      expected += ((1 - smoothing) * label + smoothing * (std::log(total) - mean)) / 2;
    }
    EXPECT_NEAR((*results)[0].at(0), expected, 1e-12);
    EXPECT_EQ((*results)[2].at(0), 2.0);
  }
}

TEST(Recipe, CrossEntropyOfAMissingValue) {
  mlir::MLIRContext context;
  context.loadDialect<ir::MoeDialect, mlir::func::FuncDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(
      R"(func.func @forward(%x: tensor<3x4xf32> {moe.name = "x"}) attributes {moe.program = "forward"} { return })",
      &context);
  Status status = applyLoss(*module, parse("loss: {cross_entropy: {logits: y, labels: x}}"));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().what, "the model has no value 'y'");
}

TEST(Recipe, LabelsThatTheModelDoesNotHaveBecomeAnInput) {
  mlir::MLIRContext context;
  context.loadDialect<ir::MoeDialect, mlir::func::FuncDialect>();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(
      R"(module attributes {moe.data = {pad_id = -1 : i64, inputs = {x = {vocabulary = 0 : i64, labels = false}}}} {
        func.func @forward(%x: tensor<3x4xf32> {moe.name = "x"}) attributes {moe.program = "forward"} { return }
      })",
      &context);
  Status status = applyLoss(*module, parse("loss: {cross_entropy: {logits: x, labels: y, ignore_index: -7}}"));
  ASSERT_TRUE(status.has_value());
  auto forward = module->lookupSymbol<mlir::func::FuncOp>("forward");
  ASSERT_EQ(forward.getNumArguments(), 2u);
  EXPECT_EQ(forward.getArgAttrOfType<mlir::StringAttr>(1, "moe.name").str(), "y");
  EXPECT_EQ(ir::typeOf(forward.getArgument(1)).getShape(), llvm::ArrayRef<int64_t>({3}));
  auto data = (*module)->getAttrOfType<mlir::DictionaryAttr>("moe.data");
  EXPECT_EQ(data.getAs<mlir::IntegerAttr>("pad_id").getInt(), -7);
  auto labels = data.getAs<mlir::DictionaryAttr>("inputs").getAs<mlir::DictionaryAttr>("y");
  ASSERT_TRUE(labels);
  EXPECT_EQ(labels.getAs<mlir::IntegerAttr>("vocabulary").getInt(), 4);
  EXPECT_TRUE(labels.getAs<mlir::BoolAttr>("labels").getValue());
}

} // namespace
