//===- RoundingTest.cpp - Element types of the interpreter ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "mlir/IR/Builders.h"
#include "test/ir/TestSupport.h"
#include "llvm/ADT/APFloat.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace moe::ir;
using namespace moe::test;

namespace {

/// The oracle: LLVM's own conversion.
double converted(double value, FloatType type) {
  bool losesInfo;
  llvm::APFloat number(value);
  number.convert(type.getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  number.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  return number.convertToDouble();
}

TEST(Rounding, AgreesWithLlvmOnEveryScale) {
  MLIRContext context;
  Builder builder(&context);
  std::mt19937_64 engine(1);
  const FloatType types[] = {builder.getBF16Type(), builder.getF16Type(), builder.getF32Type(), builder.getF64Type()};
  for (FloatType type : types)
    for (int i = 0; i < 20000; ++i) {
      double value = std::ldexp(static_cast<double>(static_cast<int64_t>(engine())), static_cast<int>(i % 300) - 220);
      EXPECT_EQ(roundToType(value, type), converted(value, type)) << value;
    }
}

TEST(Rounding, HandlesTiesSubnormalsAndOverflow) {
  MLIRContext context;
  Builder builder(&context);
  FloatType bf16 = builder.getBF16Type(), f16 = builder.getF16Type();
  EXPECT_EQ(roundToType(1 + 0x1p-8, bf16), 1);
  EXPECT_EQ(roundToType(1 + 3 * 0x1p-8, bf16), 1 + 4 * 0x1p-8);
  // Rounding to float32 first would move this value to the tie and then up.
  EXPECT_EQ(roundToType(1 + 0x1p-8 - 0x1p-40, bf16), 1);
  EXPECT_EQ(roundToType(1 + 0x1p-8 + 0x1p-40, bf16), 1 + 0x1p-7);
  EXPECT_EQ(roundToType(65519.9, f16), 65504);
  EXPECT_EQ(roundToType(65520, f16), INFINITY);
  EXPECT_EQ(roundToType(-1e300, bf16), -INFINITY);
  EXPECT_EQ(roundToType(0x1p-25, f16), 0);
  EXPECT_EQ(roundToType(0x1.8p-25, f16), 0x1p-24);
  EXPECT_TRUE(std::signbit(roundToType(-0x1p-30, f16)));
  EXPECT_TRUE(std::isnan(roundToType(NAN, bf16)));
  EXPECT_EQ(roundToType(-INFINITY, f16), -INFINITY);
}

TEST(Rounding, WrapsIntegersToTheirWidth) {
  MLIRContext context;
  Builder builder(&context);
  EXPECT_EQ(wrapToType(int64_t(1) << 31, builder.getI32Type()), -(int64_t(1) << 31));
  EXPECT_EQ(wrapToType(200, builder.getIntegerType(8)), -56);
  EXPECT_EQ(wrapToType(200, builder.getIntegerType(8, /*isSigned=*/false)), 200);
  EXPECT_EQ(wrapToType(-1, builder.getI1Type()), 1);
  EXPECT_EQ(wrapToType(-1, builder.getI64Type()), -1);
}

TEST(Rounding, HappensAfterEachOperationIfAskedFor) {
  const std::string text = "moe.div %0, %1 : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>";
  std::vector<HostTensor> inputs = {HostTensor({2}, {1, 2}), HostTensor({2}, {3, 7})};
  IrContext ir;
  EXPECT_EQ(evaluate(ir, text, inputs).at(0).floats, (std::vector<double>{1.0 / 3, 2.0 / 7}));
  EXPECT_EQ(evaluate(ir, text, inputs, {.roundToElementType = true}).at(0).floats,
            (std::vector<double>{1.0f / 3, 2.0f / 7}));
  // Arguments are rounded, too: 0.1 is no float32.
  const std::string cast = "moe.cast %0 {to = f64} : (tensor<1xf32>) -> tensor<1xf64>";
  EXPECT_EQ(evaluate(ir, cast, {HostTensor({1}, {0.1})}, {.roundToElementType = true}).at(0).floats[0],
            static_cast<double>(0.1f));
}

} // namespace
