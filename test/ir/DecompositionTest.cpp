//===- DecompositionTest.cpp - Coarse operations against their decompositions -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"
#include "test/ir/GradientSupport.h"
#include <cmath>
#include <gtest/gtest.h>
#include <set>

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;

namespace {

/// Those of `cases` whose operation says in its record that it decomposes.
std::vector<OperationCase> decomposable(const std::vector<OperationCase> &cases) {
  IrContext ir;
  std::vector<OperationCase> chosen;
  for (const OperationCase &example : cases) {
    auto name = RegisteredOperationName::lookup(example.name(), &ir.context);
    if (name && name->getInterface<moe::ir::MoeOpInterface>()->getObligations().decomposition.starts_with("yes"))
      chosen.push_back(example);
  }
  return chosen;
}

std::vector<OperationCase> allDecomposable() {
  std::vector<OperationCase> cases = decomposable(differentiableCases());
  for (const OperationCase &example : decomposable(furtherDecomposableCases()))
    cases.push_back(example);
  return cases;
}

/// Equal up to `tolerance` of the largest element; both differ only in the order of float64 operations.
void expectClose(const HostTensor &value, const HostTensor &expected, double tolerance, const std::string &what) {
  ASSERT_EQ(value.shape, expected.shape) << what;
  ASSERT_EQ(value.isFloat, expected.isFloat) << what;
  EXPECT_EQ(value.ints, expected.ints) << what;
  double scale = 1e-3;
  for (double element : expected.floats)
    if (std::isfinite(element))
      scale = std::max(scale, std::fabs(element));
  for (size_t i = 0; i < expected.floats.size(); ++i)
    if (value.floats[i] != expected.floats[i]) // equal infinities have no difference
      EXPECT_NEAR(value.floats[i], expected.floats[i], tolerance * scale) << what << ", element " << i;
}

class Decomposition : public testing::TestWithParam<OperationCase> {};

TEST_P(Decomposition, ComputesTheSame) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(GetParam().operation));
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> inputs = inputsOf(GetParam(), *module);
  std::vector<HostTensor> expected = evaluate(*module, "f", inputs);
  OptionalTensors results = decomposedResults(*module, inputs);
  ASSERT_EQ(results.size(), expected.size()) << ir.messages();
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(results[i]) << "result " << i;
    expectClose(*results[i], expected[i], 1e-12, "result " + std::to_string(i));
  }
}

class DecompositionGradient : public testing::TestWithParam<OperationCase> {};

TEST_P(DecompositionGradient, IsTheSame) {
  const OperationCase &example = GetParam();
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(example.operation));
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> inputs = inputsOf(example, *module);
  std::vector<HostTensor> cotangents = cotangentsOf(example, *module);
  OptionalTensors coarse = adjointGradients(*module, example, inputs, cotangents, floatOperands(subject(*module)));
  OptionalTensors fine = decomposedGradients(*module, example, inputs, cotangents);
  ASSERT_EQ(coarse.size(), inputs.size()) << ir.messages();
  ASSERT_EQ(fine.size(), inputs.size()) << ir.messages();
  for (size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_EQ(coarse[i].has_value(), fine[i].has_value()) << "operand " << i;
    if (!coarse[i])
      continue;
    for (double &element : fine[i]->floats)
      element *= example.factor;
    expectClose(*coarse[i], *fine[i], 1e-11, "operand " + std::to_string(i));
  }
}

std::string caseName(const testing::TestParamInfo<OperationCase> &info) {
  return info.param.name().substr(4) + "_" + std::to_string(info.index);
}

INSTANTIATE_TEST_SUITE_P(Cases, Decomposition, testing::ValuesIn(allDecomposable()), caseName);
INSTANTIATE_TEST_SUITE_P(Cases, DecompositionGradient, testing::ValuesIn(decomposable(differentiableCases())),
                         caseName);

TEST(DecompositionCases, CoverEveryDecomposableOperation) {
  std::set<std::string> covered;
  for (const OperationCase &example : allDecomposable())
    covered.insert(example.name());
  IrContext ir;
  for (RegisteredOperationName name : ir.context.getRegisteredOperationsByDialect("moe"))
    if (auto *model = name.getInterface<moe::ir::MoeOpInterface>();
        model && model->getObligations().decomposition.starts_with("yes")) {
      EXPECT_TRUE(covered.count(name.getStringRef().str())) << name.getStringRef().str() << " has no case";
    }
}

} // namespace
