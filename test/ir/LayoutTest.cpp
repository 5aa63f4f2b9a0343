//===- LayoutTest.cpp - Layout rules against the operations themselves --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Whatever a rule allows is done: operands are cut into the parts of several ranks, each rank runs the operation on its
// own, and the parts of the results, put together as the rule says, must be what the whole operation computes.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/RetypeTensors.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "test/ir/GradientSupport.h"
#include "test/ir/LayoutCases.h"
#include "gtest/gtest.h"

#include <set>

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;

namespace {

std::vector<OperationCase> allCases() {
  std::vector<OperationCase> cases = differentiableCases();
  for (const auto *more : {&furtherDecomposableCases(), &furtherLayoutCases()})
    cases.insert(cases.end(), more->begin(), more->end());
  return cases;
}

void expectEqual(const std::optional<HostTensor> &actual, const HostTensor &expected, const std::string &what) {
  ASSERT_TRUE(actual) << what << ": ranks that should agree do not";
  ASSERT_EQ(actual->size(), expected.size()) << what;
  double scale = 1;
  for (int64_t i = 0; i < expected.size(); ++i)
    if (std::isfinite(expected.at(i)))
      scale = std::max(scale, std::abs(expected.at(i)));
  for (int64_t i = 0; i < expected.size(); ++i)
    if (std::isfinite(expected.at(i)))
      ASSERT_NEAR(actual->at(i), expected.at(i), 1e-12 * scale) << what << ", element " << i;
    else
      ASSERT_EQ(std::isnan(actual->at(i)), std::isnan(expected.at(i))) << what << ", element " << i;
}

/// Runs @f of the local module on every rank's arguments; one list of parts per result.
std::vector<std::vector<HostTensor>> runRanks(ModuleOp local, const std::vector<std::vector<HostTensor>> &arguments,
                                              Mesh mesh) {
  std::vector<std::vector<HostTensor>> results;
  for (int64_t rank = 0; rank < ranksOf(mesh); ++rank) {
    std::vector<HostTensor> mine;
    mine.reserve(arguments.size());
    for (const std::vector<HostTensor> &parts : arguments)
      mine.push_back(parts[rank]);
    std::vector<HostTensor> computed = evaluate(local, "f", mine, {.rank = rank});
    results.resize(computed.size());
    for (size_t i = 0; i < computed.size(); ++i)
      results[i].push_back(computed[i]);
  }
  return results;
}

class Layout : public testing::TestWithParam<OperationCase> {};

/// Operands of every rank, in the layouts of the local function.
std::vector<std::vector<HostTensor>> scatterAll(const std::vector<HostTensor> &values, TypeRange types, Mesh mesh,
                                                uint64_t seed) {
  std::vector<std::vector<HostTensor>> parts;
  for (auto [i, value] : llvm::enumerate(values))
    parts.push_back(scatter(value, cast<RankedTensorType>(types[i]), mesh, seed + 100 * i));
  return parts;
}

/// Replaces the subject by its decomposition in the program of one rank, as `decompose-coarse` does.
void decompose(ModuleOp local) {
  moe::ir::dropLayouts(local);
  auto op = cast<moe::ir::DecomposableOpInterface>(subject(local));
  OpBuilder builder(op);
  FailureOr<SmallVector<Value>> values = op.decompose(builder);
  ASSERT_TRUE(succeeded(values));
  op->replaceAllUsesWith(*values);
  op->erase();
}

/// Runs the subject on the ranks of `mesh`, as it is and decomposed, and compares with the whole operation.
void expectPartsMakeUp(const std::vector<HostTensor> &expected, const std::vector<HostTensor> &inputs, ModuleOp module,
                       Mesh mesh, const IrContext &ir) {
  OwningOpRef<ModuleOp> local = localModule(module, mesh);
  ASSERT_TRUE(succeeded(verify(*local))) << nameOf(mesh) << ": " << ir.messages();
  auto function = local->lookupSymbol<func::FuncOp>("f");
  auto arguments = scatterAll(inputs, function.getArgumentTypes(), mesh, 1);
  const SmallVector<Type> types(function.getResultTypes());
  const bool decomposes = isa<moe::ir::DecomposableOpInterface>(subject(*local));
  for (bool decomposed : {false, true}) {
    if (decomposed && !decomposes)
      break;
    if (decomposed)
      decompose(*local);
    ASSERT_TRUE(succeeded(verify(*local))) << nameOf(mesh) << ": " << ir.messages();
    auto results = runRanks(*local, arguments, mesh);
    ASSERT_EQ(results.size(), expected.size()) << ir.messages();
    for (size_t i = 0; i < expected.size(); ++i)
      expectEqual(assemble(results[i], cast<RankedTensorType>(types[i]), mesh), expected[i],
                  nameOf(mesh) + (decomposed ? ", decomposed" : "") + ", result " + std::to_string(i));
  }
}

TEST_P(Layout, PartsMakeUpTheWhole) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(GetParam().operation));
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> inputs = inputsOf(GetParam(), *module), expected = evaluate(*module, "f", inputs);
  for (const Distribution &how : distributions(subject(*module)))
    expectPartsMakeUp(expected, inputs, *module, how, ir);
}

/// Each axis of a mesh lays the operation as if it were alone.
TEST_P(Layout, PartsOnTwoAxesMakeUpTheWhole) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(GetParam().operation));
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> inputs = inputsOf(GetParam(), *module), expected = evaluate(*module, "f", inputs);
  std::vector<Distribution> ways = distributions(subject(*module));
  for (size_t first = 0; first < ways.size(); ++first)
    for (size_t second = first + 1; second < ways.size(); ++second)
      expectPartsMakeUp(expected, inputs, *module, {ways[first], ways[second]}, ir);
}

/// A partial operand in which the operation is not linear is refused: its summands would go through it one by one.
TEST_P(Layout, RefusesPartialSumsWhereItIsNotLinear) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(GetParam().operation));
  ASSERT_TRUE(module);
  Operation *op = subject(*module);
  moe::ir::LayoutRule rule = cast<moe::ir::MoeOpInterface>(op).getLayoutRule();
  if (rule.free)
    GTEST_SKIP() << "changes layouts: CollectivesTest";
  for (unsigned i = 0; i < op->getNumOperands(); ++i) {
    llvm::SmallVector<unsigned, 2> alone{i};
    if (llvm::is_contained(rule.linear, alone))
      continue;
    OwningOpRef<ModuleOp> local = localModule(*module, Distribution{2, std::nullopt, alone});
    EXPECT_TRUE(failed(verify(*local))) << "operand " << i;
    EXPECT_NE(ir.messages().find("partial"), std::string::npos) << ir.messages();
  }
}

/// The adjoint on dual layouts type-checks, and its parts make up the gradients of the whole operation.
TEST_P(Layout, AdjointMapsDualsToDuals) {
  const OperationCase &example = GetParam();
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(example.operation));
  ASSERT_TRUE(module);
  if (!isa<moe::ir::DifferentiableOpInterface>(subject(*module)))
    GTEST_SKIP() << "has no adjoint";
  if (cast<moe::ir::MoeOpInterface>(subject(*module)).getLayoutRule().free)
    GTEST_SKIP() << "changes layouts: CollectivesTest";
  std::vector<HostTensor> inputs = inputsOf(example, *module), cotangents = cotangentsOf(example, *module);
  llvm::SmallBitVector needed = floatOperands(subject(*module));
  OptionalTensors expected = adjointGradients(*module, example, inputs, cotangents, needed);
  ASSERT_FALSE(expected.empty()) << ir.messages();
  std::vector<Distribution> ways = distributions(subject(*module));
  ways.push_back({2, std::nullopt, {}}); // equal on all ranks: the gradients are partial
  for (const Distribution &how : ways) {
    OwningOpRef<ModuleOp> local = localModule(*module, how);
    auto f = local->lookupSymbol<func::FuncOp>("f");
    std::vector<Type> cotangentTypes;
    cotangentTypes.reserve(example.results.size());
    for (unsigned result : example.results)
      cotangentTypes.push_back(moe::ir::dualType(cast<RankedTensorType>(f.getResultTypes()[result])));
    auto operands = scatterAll(inputs, f.getArgumentTypes(), how, 1);
    auto arriving = scatterAll(cotangents, cotangentTypes, how, 7);
    std::vector<std::vector<HostTensor>> parts(expected.size());
    for (int64_t rank = 0; rank < how.ranks; ++rank) {
      std::vector<HostTensor> mine, grads;
      for (const auto &operand : operands)
        mine.push_back(operand[rank]);
      for (const auto &grad : arriving)
        grads.push_back(grad[rank]);
      OptionalTensors computed = adjointGradients(*local, example, mine, grads, needed, rank);
      ASSERT_EQ(computed.size(), expected.size()) << how.name() << ": " << ir.messages();
      for (size_t i = 0; i < computed.size(); ++i)
        if (computed[i])
          parts[i].push_back(*computed[i]);
    }
    auto gradient = local->lookupSymbol<func::FuncOp>("gradient");
    size_t next = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(expected[i].has_value(), !parts[i].empty()) << how.name() << ", operand " << i;
      if (!expected[i])
        continue;
      auto type = moe::ir::dualType(cast<RankedTensorType>(f.getArgumentTypes()[i]));
      EXPECT_EQ(gradient.getResultTypes()[next++], type) << how.name() << ", operand " << i;
      expectEqual(assemble(parts[i], type, how), *expected[i],
                  how.name() + ", gradient of operand " + std::to_string(i));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, Layout, testing::ValuesIn(allCases()));

/// Every rule that says something has been put to the test above.
TEST(LayoutRules, AreAllExercised) {
  IrContext ir;
  std::set<std::string> exercised, silent;
  for (const OperationCase &example : allCases()) {
    OwningOpRef<ModuleOp> module = ir.parse(functionAround(example.operation));
    ASSERT_TRUE(module) << ir.messages();
    (distributions(subject(*module)).empty() ? silent : exercised).insert(example.name());
  }
  // Types of states and of bodies have the say; what changes layouts has tests of its own.
  const std::set<std::string> without = {"moe.read",           "moe.write",        "moe.fused",       "moe.state",
                                         "moe.yield",          "moe.all_reduce",   "moe.all_gather",  "moe.all_slice",
                                         "moe.as_partial",     "moe.bucket_split", "moe.bucket_join", "moe.pad_slice",
                                         "moe.reduce_scatter", "moe.all_to_all",   "moe.own_slots",   "moe.done"};
  for (RegisteredOperationName name : ir.context.getRegisteredOperationsByDialect("moe")) {
    std::string op = name.getStringRef().str();
    EXPECT_NE(exercised.count(op), without.count(op)) << op;
  }
}

} // namespace
