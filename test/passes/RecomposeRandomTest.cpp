//===- RecomposeRandomTest.cpp - Modules compute the same before and after `recompose` ----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "test/ir/TestSupport.h"
#include "test/passes/RandomAttention.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;
using moe::ir::typeOf;

namespace {

/// Adds @g, which takes the arguments of @f and the gradient of its result and returns the gradients of the arguments
/// (zeros where none arrives), by the operations' own adjoints in a plain reverse sweep.
LogicalResult addGradient(ModuleOp module) {
  auto f = module.lookupSymbol<func::FuncOp>("f");
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  SmallVector<Type> types(f.getArgumentTypes());
  types.push_back(f.getResultTypes().front());
  auto g = func::FuncOp::create(builder, f.getLoc(), "g", builder.getFunctionType(types, f.getArgumentTypes()));
  Block *block = g.addEntryBlock();
  builder.setInsertionPointToEnd(block);
  IRMapping mapping;
  for (BlockArgument argument : f.getArguments())
    mapping.map(argument, block->getArgument(argument.getArgNumber()));
  SmallVector<Operation *> forward;
  for (Operation &op : f.getBody().front().without_terminator())
    forward.push_back(builder.clone(op, mapping));
  llvm::DenseMap<Value, Value> grads;
  auto accumulate = [&](Value value, Value grad) {
    Value &sum = grads[value];
    sum = sum ? moe::ir::AddOp::create(builder, f.getLoc(), sum, grad).getResult() : grad;
  };
  accumulate(mapping.lookup(f.getBody().front().getTerminator()->getOperand(0)), block->getArguments().back());
  for (Operation *op : llvm::reverse(forward)) {
    SmallVector<Value> resultGrads, operandGrads(op->getNumOperands());
    for (Value result : op->getResults())
      resultGrads.push_back(grads.lookup(result));
    auto differentiable = dyn_cast<moe::ir::DifferentiableOpInterface>(op);
    llvm::SmallBitVector needed(op->getNumOperands());
    for (auto [i, operand] : llvm::enumerate(op->getOperands()))
      needed[i] = isa<FloatType>(typeOf(operand).getElementType());
    if (!differentiable || needed.none() || llvm::all_of(resultGrads, [](Value grad) { return !grad; }))
      continue;
    if (failed(differentiable.buildAdjoint(builder, resultGrads, needed, operandGrads)))
      return failure();
    for (auto [operand, grad] : llvm::zip_equal(op->getOperands(), operandGrads))
      if (grad)
        accumulate(operand, grad);
  }
  SmallVector<Value> returned;
  for (Value argument : block->getArguments().drop_back())
    returned.push_back(grads.contains(argument) ? grads[argument]
                                                : moe::ir::TensorBuilder(builder, f.getLoc()).splatLike(argument, 0.0));
  func::ReturnOp::create(builder, f.getLoc(), returned);
  return verify(module);
}

/// Result of @f and gradients of its arguments, for inputs that follow from `seed` and the shapes.
std::vector<HostTensor> resultsAndGradients(ModuleOp module, std::vector<HostTensor> inputs) {
  std::vector<HostTensor> all = evaluate(module, "f", inputs);
  if (all.empty() || failed(addGradient(module)))
    return {};
  HostTensor cotangent = all.front();
  cotangent.floats = randomNumbers(cotangent.size(), -1, 1, 99);
  inputs.push_back(cotangent);
  for (HostTensor &gradient : evaluate(module, "g", inputs))
    all.push_back(std::move(gradient));
  return all;
}

LogicalResult recompose(ModuleOp module) {
  PassManager passes(module.getContext());
  passes.addPass(moe::ir::createRecompose());
  return passes.run(module);
}

/// Equal up to 1e-12 of the largest element: both are computed in float64, in another order.
void expectSame(const std::vector<HostTensor> &before, const std::vector<HostTensor> &after) {
  ASSERT_FALSE(before.empty());
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    ASSERT_EQ(before[i].shape, after[i].shape);
    double scale = 1;
    for (double element : before[i].floats)
      scale = std::max(scale, std::fabs(element));
    for (size_t j = 0; j < before[i].floats.size(); ++j)
      ASSERT_NEAR(before[i].floats[j], after[i].floats[j], 1e-12 * scale) << "tensor " << i << ", element " << j;
  }
}

std::vector<HostTensor> inputsOf(const AttentionStyle &style, ModuleOp module, uint64_t seed) {
  std::vector<HostTensor> inputs;
  for (Type type : module.lookupSymbol<func::FuncOp>("f").getArgumentTypes()) {
    HostTensor input(cast<RankedTensorType>(type));
    input.floats = randomNumbers(input.size(), -1, 1, seed + inputs.size());
    inputs.push_back(std::move(input));
  }
  std::vector<double> &kept = inputs[3].floats;
  for (size_t i = 0; i < kept.size(); ++i)
    kept[i] = i % static_cast<size_t>(style.keys) == 0 || kept[i] > 0;
  // A sequence of padding alone, where the model gives a number to it: the mean of all values.
  if (style.mask == AttentionStyle::PaddingAdded && style.softmax != AttentionStyle::WithoutMaximum && seed % 2 == 0)
    std::fill_n(kept.begin(), style.keys, 0.0);
  return inputs;
}

// Any layout, scale, mask and softmax that exports are known to write becomes one coarse operation, and the module
// computes the same, gradients included. A transpose too many, a mask read off by one, a scale squared, a bias added
// to the wrong dimensions: all of them show here.
TEST(RecomposeRandom, AttentionStaysWhatItIs) {
  std::mt19937 engine(20240611);
  for (int i = 0; i < 400; ++i) {
    AttentionStyle style = AttentionStyle::random(engine);
    SCOPED_TRACE(style.name());
    IrContext ir;
    OwningOpRef<ModuleOp> module = attentionModule(ir.context, style);
    ASSERT_TRUE(succeeded(verify(*module))) << ir.messages();
    std::vector<HostTensor> inputs = inputsOf(style, *module, 1000 + static_cast<uint64_t>(i));
    OwningOpRef<ModuleOp> coarse = module->clone();
    ASSERT_TRUE(succeeded(recompose(*coarse))) << ir.messages();
    int count = 0;
    coarse->walk([&](moe::ir::AttentionOp attention) {
      ++count;
      EXPECT_EQ(attention.getCausal(), style.isCausal());
      EXPECT_EQ(static_cast<bool>(attention.getPadding()),
                style.mask == AttentionStyle::PaddingSelected || style.mask == AttentionStyle::CausalAndPadding);
      EXPECT_EQ(static_cast<bool>(attention.getBias()), style.mask == AttentionStyle::PaddingAdded ||
                                                            style.mask == AttentionStyle::Bias ||
                                                            style.mask == AttentionStyle::Distances);
      EXPECT_NEAR(attention.getSoftcap().convertToDouble(), style.capped ? 1.3 : 0, 1e-12);
      EXPECT_EQ(typeOf(attention.getKey()).getDimSize(2), style.keyHeads);
      EXPECT_EQ(static_cast<bool>(attention.getSinks()), style.sink);
    });
    EXPECT_EQ(count, 1);
    expectSame(resultsAndGradients(*module, inputs), resultsAndGradients(*coarse, inputs));
    if (HasFailure())
      return;
  }
}

} // namespace
