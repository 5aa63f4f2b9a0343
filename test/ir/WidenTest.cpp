//===- WidenTest.cpp - Float64 throughout -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Widen.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Verifier.h"
#include "test/ir/TestSupport.h"
#include "llvm/Support/raw_ostream.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;
using namespace moe::test;

namespace {

TEST(Widen, ReachesStatesFunctionsConstantsCastsAndRegions) {
  IrContext ir;
  auto module = ir.parse(R"(
    moe.state parameter @w : tensor<2xf32> {initial = 0.5 : f32}
    moe.state parameter @d : tensor<2xf32> {initial = {data = dense<[1.0, 2.0]> : tensor<2xf32>}}
    moe.state parameter @on_disk : tensor<2xf32> {initial = {file = "weights", offset = 0 : i64, bytes = 8 : i64, stored = f32}}
    func.func @f(%x: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xi32>) {
      %w = moe.read @w : tensor<2xf32>
      %c = moe.constant {value = dense<0.1> : tensor<2xf32>} : () -> tensor<2xf32>
      %r = moe.constant {value = dense_resource<floats> : tensor<2xf32>} : () -> tensor<2xf32>
      %h = moe.cast %x {to = bf16} : (tensor<2xf32>) -> tensor<2xbf16>
      %y = moe.fused "loop"(%h) : (tensor<2xbf16>) -> tensor<2xbf16> {
      ^bb0(%a: tensor<2xbf16>):
        %b = moe.exp %a : (tensor<2xbf16>) -> tensor<2xbf16>
        moe.yield %b : tensor<2xbf16>
      }
      %z = moe.cast %y {to = f32} : (tensor<2xbf16>) -> tensor<2xf32>
      %s = moe.add_n %z, %w, %c, %r : (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
      %i = moe.cast %s {to = i32} : (tensor<2xf32>) -> tensor<2xi32>
      return %s, %i : tensor<2xf32>, tensor<2xi32>
    }
    {-# dialect_resources: { builtin: { floats: "0x040000000000803F00000040" } } #-})");
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> before = evaluate(*module, "f", {HostTensor({2}, {1, 2})});
  ASSERT_TRUE(succeeded(widenToFloat64(*module))) << ir.messages();
  ASSERT_TRUE(succeeded(verify(*module))) << ir.messages();
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os);
  EXPECT_NE(text.find("stored = f32"), std::string::npos);
  for (const char *narrow : {"xf32", "bf16", ": f32"})
    EXPECT_EQ(text.find(narrow), std::string::npos) << text;
  EXPECT_NE(text.find("tensor<2xi32>"), std::string::npos);
  // Without rounding the narrow module computed the same; with rounding the wide one has nothing to round.
  std::vector<HostTensor> after = evaluate(*module, "f", {HostTensor({2}, {1, 2})}, {.roundToElementType = true});
  ASSERT_EQ(after.size(), 2u) << ir.messages();
  EXPECT_EQ(after[0].floats, before.at(0).floats);
  EXPECT_EQ(after[1].ints, before.at(1).ints);
  EXPECT_EQ(InterpreterState(*module).read("d").floats, (std::vector<double>{1, 2}));
  EXPECT_EQ(InterpreterState(*module).read("w").floats, (std::vector<double>{0.5, 0.5}));
}

} // namespace
