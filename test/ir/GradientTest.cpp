//===- GradientTest.cpp - Every adjoint against central differences ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// loss = sum of results times fixed random cotangents, in float64. The derivative with respect to each element of each
// floating-point operand is compared with the fourth-order central difference; its error (step^4 times the fifth
// derivative, rounding / step) lies near 1e-11 of the values used here, far below the tolerance of 1e-7.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"
#include "test/ir/GradientSupport.h"
#include <cmath>
#include <gtest/gtest.h>
#include <set>

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;

namespace {

double lossOf(ModuleOp module, const OperationCase &example, const std::vector<HostTensor> &inputs,
              const std::vector<HostTensor> &cotangents) {
  std::vector<HostTensor> results = evaluate(module, "f", inputs);
  double loss = 0;
  for (size_t i = 0; i < example.results.size(); ++i)
    for (int64_t j = 0; j < cotangents[i].size(); ++j)
      loss += cotangents[i].floats[j] * results.at(example.results[i]).floats[j];
  return loss;
}

std::vector<double> finiteDifferences(ModuleOp module, const OperationCase &example, std::vector<HostTensor> inputs,
                                      const std::vector<HostTensor> &cotangents, size_t operand) {
  constexpr double step = 5e-4;
  std::vector<double> gradient;
  for (int64_t i = 0; i < inputs[operand].size(); ++i) {
    double &element = inputs[operand].floats[i];
    double original = element;
    auto at = [&](double steps) {
      element = original + steps * step;
      return lossOf(module, example, inputs, cotangents);
    };
    gradient.push_back((8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step));
    element = original;
  }
  return gradient;
}

class Gradient : public testing::TestWithParam<OperationCase> {};

TEST_P(Gradient, EqualsFiniteDifferences) {
  const OperationCase &example = GetParam();
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(example.operation));
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> inputs = inputsOf(example, *module);
  ASSERT_FALSE(evaluate(*module, "f", inputs).empty()) << ir.messages();
  std::vector<HostTensor> cotangents = cotangentsOf(example, *module);
  llvm::SmallBitVector needed = floatOperands(subject(*module));
  OptionalTensors gradients = adjointGradients(*module, example, inputs, cotangents, needed);
  ASSERT_EQ(gradients.size(), inputs.size()) << ir.messages();
  for (unsigned operand = 0; operand < inputs.size(); ++operand) {
    if (!needed.test(operand)) {
      EXPECT_FALSE(gradients[operand]) << "integer operand " << operand << " has a gradient";
      continue;
    }
    std::vector<double> expected = finiteDifferences(*module, example, inputs, cotangents, operand);
    if (gradients[operand]) {
      ASSERT_EQ(gradients[operand]->shape, inputs[operand].shape);
    }
    double scale = 1e-3;
    for (double value : expected)
      scale = std::max(scale, std::fabs(example.factor * value));
    for (size_t i = 0; i < expected.size(); ++i) {
      double value = gradients[operand] ? gradients[operand]->floats[i] : 0;
      EXPECT_NEAR(value, example.factor * expected[i], 1e-7 * scale) << "operand " << operand << ", element " << i;
    }
    // Asked for this operand alone, the adjoint gives the same and nothing else.
    llvm::SmallBitVector alone(inputs.size());
    alone.set(operand);
    OptionalTensors single = adjointGradients(*module, example, inputs, cotangents, alone);
    ASSERT_EQ(single.size(), inputs.size()) << ir.messages();
    for (unsigned other = 0; other < inputs.size(); ++other) {
      ASSERT_EQ(single[other].has_value(), other == operand && gradients[operand].has_value()) << "operand " << other;
      if (single[other]) {
        EXPECT_EQ(single[other]->floats, gradients[other]->floats);
      }
    }
  }
}

std::string caseName(const testing::TestParamInfo<OperationCase> &info) {
  return info.param.name().substr(4) + "_" + std::to_string(info.index);
}

INSTANTIATE_TEST_SUITE_P(Cases, Gradient, testing::ValuesIn(differentiableCases()), caseName);

// A new operation whose record says that it has an adjoint needs a case above.
TEST(GradientCases, CoverEveryDifferentiableOperation) {
  std::set<std::string> covered;
  for (const OperationCase &example : differentiableCases())
    covered.insert(example.name());
  IrContext ir;
  for (RegisteredOperationName name : ir.context.getRegisteredOperationsByDialect("moe"))
    if (auto *model = name.getInterface<moe::ir::MoeOpInterface>();
        model && model->getObligations().adjoint.starts_with("yes")) {
      EXPECT_TRUE(covered.count(name.getStringRef().str())) << name.getStringRef().str() << " has no gradient case";
    }
}

} // namespace
