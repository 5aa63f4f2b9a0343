//===- RandomRegionTest.cpp - Generated regions: kernels against the interpreter ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "RandomRegion.h"

#include "mlir/IR/Verifier.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;
using namespace moe::codegen;
using namespace moe::codegen::test;

namespace {

std::string text(Operation *op) {
  std::string result;
  llvm::raw_string_ostream stream(result);
  op->print(stream);
  return result;
}

/// float32 kernels against float64 formulas rounded after every operation: 1e-5 of the norm leaves room for reordered
/// sums of 1e5 terms and polynomials of 3e-7, and none for a wrong element. bf16 and f16 results may differ by the last
/// bit of a few elements.
double tolerance(Type element) {
  return element.isBF16() ? 4e-3 : element.isF16() ? 5e-4 : 1e-5;
}

/// Each region runs whole, in random pieces and in place: the pieces and places must not change a single bit.
void check(StringRef target, StringRef emitter, int count, uint64_t seed) {
  std::unique_ptr<MLIRContext> context = makeContext();
  KernelRunner runner(*context, target);
  std::mt19937_64 random(seed);
  std::vector<Case> cases;
  std::vector<int> regions;
  for (int i = 0; i < count; ++i) {
    Case c = randomCase(*context, emitter, random);
    ASSERT_TRUE(succeeded(verify(*c.module))) << text(c.op);
    regions.push_back(runner.add(c.op));
    ASSERT_GE(regions.back(), 0) << text(c.op);
    cases.push_back(std::move(c));
  }
  ASSERT_TRUE(runner.load());
  for (int i = 0; i < count; ++i) {
    Case &c = cases[i];
    std::vector<HostTensor> expected = reference(c);
    ASSERT_EQ(expected.size(), c.op.getOutputs().size());
    auto whole = runner.run(regions[i], c.inputs, {});
    EXPECT_EQ(whole, runner.run(regions[i], c.inputs, {&random, false})) << "pieces change bits\n" << text(c.op);
    EXPECT_EQ(whole, runner.run(regions[i], c.inputs, {&random, true})) << "in place\n" << text(c.op);
    for (auto [number, output] : llvm::enumerate(c.op.getOutputs())) {
      HostTensor actual = fromBytes(whole[number].data(), typeOf(output));
      EXPECT_LE(relativeError(actual, expected[number]), tolerance(typeOf(output).getElementType()))
          << emitter.str() << " case " << i << ", result " << number << "\n"
          << text(c.op);
    }
    if (testing::Test::HasFailure())
      return;
  }
}

TEST(RandomRegion, Loop) {
  check("cpu:native", "loop", 220, 1);
}
TEST(RandomRegion, RowReduce) {
  check("cpu:native", "row_reduce", 160, 2);
}
TEST(RandomRegion, ColumnReduce) {
  check("cpu:native", "column_reduce", 100, 3);
}
TEST(RandomRegion, GatherScatter) {
  check("cpu:native", "gather_scatter", 60, 4);
}
TEST(RandomRegion, MultiTensor) {
  check("cpu:native", "multi_tensor", 20, 5);
}
// The narrower target has other vectors and masks; its features are a subset of every machine that runs this test.
TEST(RandomRegion, Avx2) {
  check("cpu:x86-64-v3", "loop", 30, 6);
  check("cpu:x86-64-v3", "row_reduce", 25, 7);
  check("cpu:x86-64-v3", "column_reduce", 20, 8);
}

} // namespace
