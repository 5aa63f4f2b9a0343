//===- RematerializeTest.cpp - Layers of programs, and values that are computed again -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Rematerialize.h"

#include "ir/Ops.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "passes/BufferTable.h"
#include "passes/CheapValues.h"
#include "passes/Fuse.h"
#include "passes/Layers.h"
#include "passes/Passes.h"
#include "test/ir/TestSupport.h"

#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;

namespace {

constexpr const char *kDot = R"( {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>,
    rhs_contract = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32> )";
constexpr const char *kSum = " : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32> ";

std::string parameters(std::initializer_list<const char *> names) {
  std::string text;
  for (const char *name : names)
    text += std::string("moe.state parameter @") + name + " : tensor<4x4xf32> {initial = {normal = [0.0, 0.5]}}\n";
  return text;
}

std::string read(const std::string &value, const std::string &parameter) {
  return "%" + value + " = moe.read @" + parameter + " : tensor<4x4xf32>\n";
}

std::string dot(const std::string &result, const std::string &operands, const std::string &location = "v") {
  return "%" + result + " = moe.dot " + operands + kDot + "loc(\"" + location + "\")\n";
}

std::string add(const std::string &result, const std::string &operands, const std::string &location = "v") {
  return "%" + result + " = moe.add " + operands + kSum + "loc(\"" + location + "\")\n";
}

/// A function of one tensor, whose operations all belong to the forward.
class Program {
public:
  Program(const std::string &states, const std::string &body) {
    module = ir.parse(states + "func.func @f(%x: tensor<4x4xf32>) {\n" + body + "return\n}\n");
    if (!module)
      return;
    Block &block = module->lookupSymbol<func::FuncOp>("f").getBody().front();
    for (Operation &op : block) {
      forward.insert(&op);
      if (op.getNumResults() == 1)
        values.push_back(op.getResult(0));
    }
    layers.emplace(block, forward);
  }

  /// Layers of the results of all operations but reads, in order; -1 for none.
  std::vector<int> found() const {
    std::vector<int> numbers;
    for (Value value : values)
      if (!isa<moe::ir::ReadOp>(value.getDefiningOp())) {
        std::optional<unsigned> layer = layers->layerOf(value);
        numbers.push_back(layer ? static_cast<int>(*layer) : -1);
      }
    return numbers;
  }

  /// Which of them are kept between layers.
  std::vector<bool> kept() const {
    llvm::DenseSet<Value> boundaries = layers->boundaries();
    std::vector<bool> bits;
    for (Value value : values)
      if (!isa<moe::ir::ReadOp>(value.getDefiningOp()))
        bits.push_back(boundaries.contains(value));
    return bits;
  }

  IrContext ir;
  OwningOpRef<ModuleOp> module;
  llvm::DenseSet<Operation *> forward;
  std::vector<Value> values;
  std::optional<moe::ir::Layers> layers;
};

TEST(Layers, NamesOfLayers) {
  EXPECT_EQ(moe::ir::layerPrefix("decoder.layers.3.fc1.weight"), "decoder.layers.3");
  EXPECT_EQ(moe::ir::layerPrefix("/model/layers.11/mlp/experts.2/MatMul"), "model.layers.11");
  EXPECT_EQ(moe::ir::layerPrefix("conv1.weight"), "");
}

// What reads no parameter of a layer belongs to the one before; the head to none, though it reads the last one's
// result.
TEST(Layers, ByParameters) {
  Program program(parameters({"emb", "l.0.w", "l.1.w", "head"}),
                  read("e", "emb") + read("a", "l.0.w") + read("b", "l.1.w") + read("h", "head") + dot("x0", "%x, %e") +
                      dot("y0", "%x0, %a") + add("x1", "%x0, %y0") + dot("y1", "%x1, %b") + add("x2", "%x1, %y1") +
                      dot("z", "%x2, %h") + add("loss", "%z, %z"));
  ASSERT_TRUE(program.module) << program.ir.messages();
  EXPECT_EQ(program.found(), (std::vector<int>{-1, 0, 0, 1, 1, -1, -1}));
  EXPECT_EQ(program.kept(), (std::vector<bool>{true, false, true, false, true, true, true}));
}

// Weights that lost their names, as exporters that transpose them make them: then the names of values tell, whatever
// comes before them. And a parameter of no layer may be read inside of one.
TEST(Layers, ByNamesOfValues) {
  Program program(parameters({"model.l.0.b", "model.l.1.b", "w1", "w2", "position", "head"}),
                  read("a", "model.l.0.b") + read("b", "model.l.1.b") + read("v", "w1") + read("w", "w2") +
                      read("p", "position") + read("h", "head") + dot("y0", "%x, %v", "/model/l.0/fc/MatMul_output_0") +
                      add("z0", "%y0, %a") + add("q0", "%z0, %p") + dot("r0", "%q0, %a") +
                      dot("y1", "%r0, %w", "l.1/fc/MatMul") + add("z1", "%y1, %b") + dot("r1", "%z1, %h", "lm_head"));
  ASSERT_TRUE(program.module) << program.ir.messages();
  EXPECT_EQ(program.found(), (std::vector<int>{0, 0, 0, 0, 1, 1, -1}));
  EXPECT_EQ(program.kept(), (std::vector<bool>{false, false, false, true, false, true, true}));
}

// A decoder that begins before the encoder: the encoder's layer is the first all the same, and only what the decoder
// reads of it is kept. "l.0" alone would be either one's.
TEST(Layers, EncoderAndDecoder) {
  Program program(parameters({"dec.l.0.q", "dec.l.0.o", "enc.l.0.w"}),
                  read("q", "dec.l.0.q") + read("o", "dec.l.0.o") + read("w", "enc.l.0.w") + dot("d0", "%x, %q") +
                      dot("e0", "%x, %w") + add("e1", "%e0, %x") + add("c", "%d0, %e1", "l.0.attention") +
                      dot("d1", "%c, %o"));
  ASSERT_TRUE(program.module) << program.ir.messages();
  EXPECT_EQ(program.layers->names(), (std::vector<std::string>{"enc.l.0", "dec.l.0"}));
  EXPECT_EQ(program.found(), (std::vector<int>{1, 0, 0, 1, 1}));
}

// What is made of a kept value alone, as its conversion, is not kept besides it.
TEST(Layers, KeepsNoCopies) {
  Program program(parameters({"l.0.w", "l.1.w"}), read("a", "l.0.w") + read("b", "l.1.w") + dot("y0", "%x, %a") +
                                                      add("x1", "%y0, %y0") + add("twice", "%x1, %x1") +
                                                      dot("y1", "%twice, %b") + add("x2", "%y1, %x1"));
  ASSERT_TRUE(program.module) << program.ir.messages();
  EXPECT_EQ(program.kept(), (std::vector<bool>{false, true, false, false, false}));
}

/// Two layers x + dropout(gelu(norm(x) w)) with gradients.
const char *const kStep = R"mlir(
module attributes {moe.training = {accumulate = 2 : i64}} {
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64, checkpointed}
  moe.state parameter @l.0.scale : tensor<8xf32> {initial = 1.0 : f64}
  moe.state parameter @l.0.w : tensor<8x8xf32> {initial = 0.0 : f64}
  moe.state parameter @l.1.scale : tensor<8xf32> {initial = 1.0 : f64}
  moe.state parameter @l.1.w : tensor<8x8xf32> {initial = 0.0 : f64}
  func.func @forward(%x: tensor<6x8xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"})
        attributes {moe.program = "forward"} {
    %rng = moe.read @control.progress : tensor<2xi64>
    %scale0 = moe.read @l.0.scale : tensor<8xf32>
    %w0 = moe.read @l.0.w : tensor<8x8xf32>
    %scale1 = moe.read @l.1.scale : tensor<8xf32>
    %w1 = moe.read @l.1.w : tensor<8x8xf32>
    %n0, %r0 = moe.rms_norm %x, %scale0 {epsilon = 1.0e-5 : f64} : (tensor<6x8xf32>, tensor<8xf32>)
        -> (tensor<6x8xf32>, tensor<6xf32>) loc("n0")
    %h0 = moe.dot %n0, %w0 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>,
        rhs_contract = array<i64: 0>} : (tensor<6x8xf32>, tensor<8x8xf32>) -> tensor<6x8xf32> loc("h0")
    %a0 = moe.gelu %h0 : (tensor<6x8xf32>) -> tensor<6x8xf32> loc("a0")
    %d0 = moe.dropout %a0, %rng {rate = 0.25 : f64, seed = 1 : i64, site = 5 : i64} : (tensor<6x8xf32>,
        tensor<2xi64>) -> tensor<6x8xf32> loc("d0")
    %x1 = moe.add %x, %d0 : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<6x8xf32> loc("x1")
    %n1, %r1 = moe.rms_norm %x1, %scale1 {epsilon = 1.0e-5 : f64} : (tensor<6x8xf32>, tensor<8xf32>)
        -> (tensor<6x8xf32>, tensor<6xf32>) loc("n1")
    %h1 = moe.dot %n1, %w1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>,
        rhs_contract = array<i64: 0>} : (tensor<6x8xf32>, tensor<8x8xf32>) -> tensor<6x8xf32> loc("h1")
    %a1 = moe.gelu %h1 : (tensor<6x8xf32>) -> tensor<6x8xf32> loc("a1")
    %d1 = moe.dropout %a1, %rng {rate = 0.25 : f64, seed = 1 : i64, site = 6 : i64} : (tensor<6x8xf32>,
        tensor<2xi64>) -> tensor<6x8xf32> loc("d1")
    %x2 = moe.add %x1, %d1 : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<6x8xf32> loc("x2")
    %q = moe.mul %x2, %x2 : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<6x8xf32> loc("q")
    %loss = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<6x8xf32>) -> tensor<f32> loc("loss")
    return %loss : tensor<f32>
  }
}
)mlir";

/// Gradients and sums after two micro-steps, each operation rounded to its type; empty after an error.
std::vector<HostTensor> twoSteps(ModuleOp module) {
  moe::ir::InterpreterState state(module);
  state.write("l.0.w", HostTensor({8, 8}, randomNumbers(64, -1, 1, 1)));
  state.write("l.1.w", HostTensor({8, 8}, randomNumbers(64, -1, 1, 2)));
  moe::ir::InterpreterOptions options;
  options.roundToElementType = true;
  for (uint64_t step : {3, 4})
    if (failed(interpret(module, "micro_step", {HostTensor({6, 8}, randomNumbers(48, -1, 1, step))}, state, options)))
      return {};
  std::vector<HostTensor> results;
  for (const char *name : {"l.0.scale.grad", "l.0.w.grad", "l.1.scale.grad", "l.1.w.grad", "sum.loss"})
    results.push_back(state.read(name));
  return results;
}

/// kStep as it is when `recompute` and `rematerialize` see it; null after a failure, which `ir` tells.
OwningOpRef<ModuleOp> fusedStep(IrContext &ir) {
  OwningOpRef<ModuleOp> module = ir.parse(kStep);
  PassManager pm(&ir.context);
  pm.addPass(moe::ir::createDifferentiate());
  pm.addPass(moe::ir::createSimplify());
  pm.addPass(moe::ir::createDecomposeCoarse());
  pm.addPass(moe::ir::createFuseEpilogues());
  pm.addPass(moe::ir::createFuse());
  if (!module || failed(pm.run(*module)))
    return {};
  return module;
}

// Whatever is kept, nothing included: the same numbers, and the backward reads no other value of the forward than the
// kept ones and the sums over rows. A copy with another site, from another operand or before its state is read wrongly
// differs.
TEST(Rematerialize, AnySetOfValues) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = fusedStep(ir);
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> expected = twoSteps(*module);
  ASSERT_FALSE(expected.empty()) << ir.messages();

  std::mt19937 random(7);
  int64_t copies = 0;
  for (int round = 0; round < 40; ++round) {
    OwningOpRef<ModuleOp> copy = module->clone();
    Block &block = copy->lookupSymbol<func::FuncOp>("micro_step").getBody().front();
    llvm::DenseSet<Operation *> forward = moe::ir::forwardPart(block);
    llvm::DenseSet<Value> keep;
    int keptOf8 = round % 9;
    for (Operation &op : block)
      if (forward.contains(&op))
        for (Value result : op.getResults())
          if (static_cast<int>(random() % 8) < keptOf8)
            keep.insert(result);
    moe::ir::Rematerialized done = moe::ir::rematerialize(block, forward, keep);
    copies += done.operations;
    if (keptOf8 == 0 || keptOf8 == 8)
      EXPECT_EQ(done.operations == 0, keptOf8 == 8) << "round " << round;
    ASSERT_TRUE(succeeded(moe::ir::sortByDependencies(block)) && succeeded(verify(*copy))) << ir.messages();
    std::vector<HostTensor> actual = twoSteps(*copy);
    ASSERT_EQ(actual.size(), expected.size()) << ir.messages();
    for (auto [a, b] : llvm::zip_equal(actual, expected))
      EXPECT_EQ(a.floats, b.floats) << "round " << round;
  }
  EXPECT_GT(copies, 40);
}

// What is cheap is what pointwise kernels compute from states, inputs and what is kept; the bits stay the same, and
// less is kept. Who reads an operand that is nowhere any more, or computes a product again, is seen here.
TEST(Rematerialize, CheapValues) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = fusedStep(ir);
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> expected = twoSteps(*module);
  ASSERT_FALSE(expected.empty()) << ir.messages();
  Block &block = module->lookupSymbol<func::FuncOp>("micro_step").getBody().front();
  llvm::DenseSet<Operation *> forward = moe::ir::forwardPart(block);
  uint64_t before = moe::ir::bytesKept(block, forward);

  EXPECT_TRUE(moe::ir::cheapValues(block, forward, {.minBytes = 193, .minSteps = 1}).empty());
  EXPECT_TRUE(moe::ir::cheapValues(block, forward, {.minBytes = 192, .minSteps = 1000}).empty());
  llvm::DenseSet<Value> cheap = moe::ir::cheapValues(block, forward, {.minBytes = 192, .minSteps = 1});
  EXPECT_FALSE(cheap.empty());
  llvm::DenseSet<Value> keep;
  for (Operation *op : forward)
    for (Value result : op->getResults())
      if (!cheap.contains(moe::ir::viewedValue(result)))
        keep.insert(result);
  moe::ir::rematerialize(block, forward, keep);
  ASSERT_TRUE(succeeded(moe::ir::sortByDependencies(block)) && succeeded(verify(*module))) << ir.messages();
  int64_t copies = 0;
  module->walk([&](moe::ir::MoeOpInterface op) {
    if (!op->hasAttr(moe::ir::kRecomputedAttr))
      return;
    ++copies;
    EXPECT_FALSE(isa<moe::ir::DotOp>(op));
    if (auto fused = dyn_cast<moe::ir::FusedOp>(*op))
      EXPECT_EQ(fused.getEmitter(), "loop");
  });
  EXPECT_GT(copies, 0);
  EXPECT_LE(moe::ir::bytesKept(block, moe::ir::forwardPart(block)) + 192, before); // of a tensor<6x8xf32>
  std::vector<HostTensor> actual = twoSteps(*module);
  ASSERT_EQ(actual.size(), expected.size()) << ir.messages();
  for (auto [a, b] : llvm::zip_equal(actual, expected))
    EXPECT_EQ(a.floats, b.floats);
}

/// A region that stores a sum and what follows from it, in bf16.
const char *const kNarrow = R"mlir(
module {
  moe.state gradient @g : tensor<4xbf16> {initial = 0.0 : f64}
  moe.state metric @m : tensor<4xbf16> {initial = 0.0 : f64}
  func.func @micro_step(%x: tensor<4xbf16>, %y: tensor<4xbf16>) {
    %s:2 = moe.fused "loop"(%x, %y) : (tensor<4xbf16>, tensor<4xbf16>) -> (tensor<4xbf16>, tensor<4xbf16>) {
    ^bb0(%a: tensor<4xbf16>, %b: tensor<4xbf16>):
      %0 = moe.add %a, %b : (tensor<4xbf16>, tensor<4xbf16>) -> tensor<4xbf16>
      %1 = moe.exp %0 : (tensor<4xbf16>) -> tensor<4xbf16>
      moe.yield %0, %1 : tensor<4xbf16>, tensor<4xbf16>
    } loc("s")
    moe.write @m, %s#0 : tensor<4xbf16> loc("m")
    %h = moe.fused "loop"(%s#0, %s#1) : (tensor<4xbf16>, tensor<4xbf16>) -> tensor<4xbf16> {
    ^bb0(%a: tensor<4xbf16>, %b: tensor<4xbf16>):
      %0 = moe.mul %a, %b : (tensor<4xbf16>, tensor<4xbf16>) -> tensor<4xbf16>
      moe.yield %0 : tensor<4xbf16>
    } loc("h.grad")
    moe.write @g, %h : tensor<4xbf16> loc("g")
    return
  }
}
)mlir";

// A kernel computes with the sum as it is before it is rounded: its exponential is not that of the stored sum, and has
// to be kept as well. In float32 nothing is rounded, and it is computed again.
TEST(Rematerialize, RoundedValues) {
  for (bool isWide : {false, true}) {
    std::string text = kNarrow;
    for (size_t at = 0; isWide && (at = text.find("bf16", at)) != std::string::npos;)
      text.replace(at, 4, "f32");
    IrContext ir;
    OwningOpRef<ModuleOp> module = ir.parse(text);
    ASSERT_TRUE(module) << ir.messages();
    Block &block = module->lookupSymbol<func::FuncOp>("micro_step").getBody().front();
    llvm::DenseSet<Operation *> forward = moe::ir::forwardPart(block);
    EXPECT_EQ(forward.size(), 2u);
    EXPECT_EQ(moe::ir::bytesKept(block, forward), isWide ? 32u : 16u);
    moe::ir::Rematerialized done = moe::ir::rematerialize(block, forward, {block.front().getResult(0)});
    EXPECT_EQ(done.operations, isWide ? 1 : 0);
    EXPECT_EQ(moe::ir::bytesKept(block, moe::ir::forwardPart(block)), 16u);
  }
}

} // namespace
