//===- LossTest.cpp - Losses that all ranks know ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The loss of a preset is a partial sum. One that is not linear in sums over the batch, as a perplexity, is known to
// all ranks, and its gradient must enter on one of them only. Here exp(mean of (x w)^2), on one rank and on meshes, by
// the float64 interpreter; and by hand: the gradient of w is loss * mean(2 x (x w)).
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Pipeline.h"
#include "test/ir/LayoutCases.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;

namespace {

constexpr const char *kModel = R"(
module attributes {moe.training = {accumulate = 1 : i64}} {
  moe.state parameter @w : tensor<f64> {initial = 0.75 : f64}
  func.func @forward(%x: tensor<8xf64> {moe.name = "x"}) -> (tensor<f64> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    %w = moe.read @w : tensor<f64>
    %all = moe.broadcast %w {dims = array<i64>} : (tensor<f64>) -> tensor<8xf64>
    %p = moe.mul %x, %all : (tensor<8xf64>, tensor<8xf64>) -> tensor<8xf64>
    %q = moe.mul %p, %p : (tensor<8xf64>, tensor<8xf64>) -> tensor<8xf64>
    %s = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0>} : (tensor<8xf64>) -> tensor<f64>
    %n = moe.constant {value = dense<8.0> : tensor<f64>} : () -> tensor<f64>
    %m = moe.div %s, %n : (tensor<f64>, tensor<f64>) -> tensor<f64>
    %l = moe.exp %m : (tensor<f64>) -> tensor<f64>
    return %l : tensor<f64>
  }
})";

TEST(ReplicatedLoss, HasTheGradientOfOneRank) {
  const std::vector<double> x = {0.5, -1, 0.25, 0.75, -0.5, 1, 0.1, -0.3};
  double mean = 0, slope = 0;
  for (double value : x) {
    mean += value * 0.75 * value * 0.75 / 8;
    slope += 2 * value * value * 0.75 / 8;
  }
  for (auto [data, expert] : {std::pair<int64_t, int64_t>{1, 1}, {2, 1}, {1, 4}, {2, 2}}) {
    SCOPED_TRACE(std::to_string(data) + " x " + std::to_string(expert));
    IrContext ir;
    OwningOpRef<ModuleOp> module = ir.parse(kModel);
    ASSERT_TRUE(module) << ir.messages();
    moe::ir::PipelineOptions pipeline;
    pipeline.last = moe::ir::Phase::Differentiate;
    pipeline.dataParallel = data;
    pipeline.expertParallel = expert;
    ASSERT_TRUE(succeeded(moe::ir::runPhases(*module, pipeline))) << ir.messages();
    const Distribution mesh[] = {{data, std::nullopt, {}}, {expert, std::nullopt, {}}};
    auto step = module->lookupSymbol<func::FuncOp>("micro_step");
    auto parts = scatter(HostTensor({8}, x), cast<RankedTensorType>(step.getArgumentTypes()[0]), mesh, 1);
    std::vector<std::vector<HostTensor>> inputs;
    inputs.reserve(parts.size());
    for (const HostTensor &part : parts)
      inputs.push_back({part});
    std::vector<moe::ir::InterpreterState> states(parts.size(), moe::ir::InterpreterState(*module));
    ASSERT_TRUE(succeeded(moe::ir::interpretOnMesh(*module, "micro_step", inputs, states))) << ir.messages();
    std::vector<HostTensor> gradients;
    gradients.reserve(states.size());
    for (const moe::ir::InterpreterState &state : states)
      gradients.push_back(state.read("w.grad"));
    auto gradient = assemble(gradients, module->lookupSymbol<moe::ir::StateOp>("w.grad").getTensorType(), mesh);
    ASSERT_TRUE(gradient);
    EXPECT_NEAR(gradient->at(0), std::exp(mean) * slope, 1e-12);
  }
}

} // namespace
