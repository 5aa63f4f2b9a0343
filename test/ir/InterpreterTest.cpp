//===- InterpreterTest.cpp - Functions, state and regions -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/TestSupport.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;
using namespace moe::test;

namespace {

TEST(Interpreter, SetsInitialValuesAndKeepsState) {
  IrContext ir;
  auto module = ir.parse(R"(
    moe.state parameter @w : tensor<3xf32> {initial = 2.5 : f64}
    moe.state parameter @table : tensor<2x2xf32> {initial = {data = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>}}
    moe.state control @count : tensor<i64> {initial = 7 : i64}
    moe.state parameter @drawn : tensor<2xf32> {initial = {normal = [0.0, 1.0]}}
    moe.state metric @none : tensor<2xf32>
    func.func @step(%x: tensor<3xf32>) -> tensor<3xf32> {
      %w = moe.read @w : tensor<3xf32>
      %sum = moe.add %w, %x : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
      moe.write @w, %sum : tensor<3xf32>
      %again = moe.read @w : tensor<3xf32>
      return %again : tensor<3xf32>
    })");
  ASSERT_TRUE(module) << ir.messages();
  InterpreterState state(*module);
  EXPECT_EQ(state.read("w").floats, (std::vector<double>{2.5, 2.5, 2.5}));
  EXPECT_EQ(state.read("table").floats, (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(state.read("count").ints, std::vector<int64_t>{7});
  EXPECT_EQ(state.read("drawn").floats, (std::vector<double>{0, 0}));
  EXPECT_EQ(state.read("none").floats, (std::vector<double>{0, 0}));
  EXPECT_FALSE(state.contains("step"));
  for (int i = 1; i <= 2; ++i) {
    auto results = interpret(*module, "step", {HostTensor({3}, {1, 2, 3})}, state);
    ASSERT_TRUE(succeeded(results)) << ir.messages();
    EXPECT_EQ((*results)[0].floats, (std::vector<double>{2.5 + i, 2.5 + 2 * i, 2.5 + 3 * i}));
    EXPECT_EQ(state.read("w").floats, (*results)[0].floats);
  }
}

// The parts of a bucket and the bucket are the same numbers; padding stays what the bucket says.
TEST(Interpreter, BucketedStatesAreViews) {
  IrContext ir;
  auto module = ir.parse(R"(
    moe.state parameter @a : tensor<2x2xf32> {initial = 1.0 : f64, bucket = @flat, offset = 1 : i64}
    moe.state parameter @b : tensor<2xf32> {bucket = @flat, offset = 5 : i64}
    moe.state parameter @flat : tensor<8xf32> {initial = 9.0 : f64}
    moe.state control @steps : tensor<i64> {initial = 5 : i64, bucket = @counters, offset = 1 : i64}
    moe.state control @counters : tensor<3xi64>
  )");
  ASSERT_TRUE(module) << ir.messages();
  InterpreterState state(*module);
  EXPECT_EQ(state.read("flat").floats, (std::vector<double>{9, 1, 1, 1, 1, 9, 9, 9}));
  state.write("b", HostTensor({2}, {3, 4}));
  state.write("a", HostTensor({2, 2}, {5, 6, 7, 8}));
  EXPECT_EQ(state.read("flat").floats, (std::vector<double>{9, 5, 6, 7, 8, 3, 4, 9}));
  state.write("flat", HostTensor({8}, {0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(state.read("a").floats, (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(state.read("b").floats, (std::vector<double>{5, 6}));
  EXPECT_EQ(state.read("counters").ints, (std::vector<int64_t>{0, 5, 0}));
  EXPECT_EQ(state.read("steps").ints, std::vector<int64_t>{5});
  EXPECT_EQ(state.read("a").shape, (llvm::SmallVector<int64_t>{2, 2}));
}

TEST(Interpreter, CallsFunctionsAndRunsFusedRegions) {
  IrContext ir;
  auto module = ir.parse(R"(
    func.func @twice(%x: tensor<2xf64>) -> tensor<2xf64> {
      %0 = moe.add %x, %x : (tensor<2xf64>, tensor<2xf64>) -> tensor<2xf64>
      return %0 : tensor<2xf64>
    }
    func.func @f(%x: tensor<2xf64>) -> (tensor<2xf64>, tensor<2xf64>) {
      %0 = call @twice(%x) : (tensor<2xf64>) -> tensor<2xf64>
      %1 = call @twice(%0) : (tensor<2xf64>) -> tensor<2xf64>
      %2:2 = moe.fused "loop"(%1, %x) : (tensor<2xf64>, tensor<2xf64>) -> (tensor<2xf64>, tensor<2xf64>) {
      ^bb0(%a: tensor<2xf64>, %b: tensor<2xf64>):
        %3 = moe.sub %a, %b : (tensor<2xf64>, tensor<2xf64>) -> tensor<2xf64>
        %4 = moe.neg %3 : (tensor<2xf64>) -> tensor<2xf64>
        moe.yield %3, %4 : tensor<2xf64>, tensor<2xf64>
      }
      return %2#0, %2#1 : tensor<2xf64>, tensor<2xf64>
    })");
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> results = evaluate(*module, "f", {HostTensor({2}, {1, 10})});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  EXPECT_EQ(results[0].floats, (std::vector<double>{3, 30}));
  EXPECT_EQ(results[1].floats, (std::vector<double>{-3, -30}));
}

struct BadModule {
  const char *text;
  std::vector<HostTensor> inputs;
  const char *message;
};

TEST(Interpreter, ReportsWhatItCannotRun) {
  const HostTensor pair({2}, {1, 2});
  const BadModule modules[] = {
      {"func.func @g() { return }", {}, "no function 'f'"},
      {"func.func private @f()", {}, "has no single block"},
      {"func.func @f() { call @f() : () -> () return }", {}, "calls itself"},
      {"func.func @f(%x: tensor<3xf32>) { return }", {pair}, "another shape or class"},
      {"func.func @f(%x: tensor<2xi32>) { return }", {pair}, "another shape or class"},
      {"func.func @f(%x: tensor<2xf32>) { return }", {}, "was given 0"},
      {"func.func @f() { %0 = func.constant @f : () -> () return }", {}, "has no reference semantics"},
      {"func.func @f(%x: tensor<2xf32>) { %i = moe.constant {value = dense<5> : tensor<1xi32>} : () -> tensor<1xi32> "
       "%0 = moe.gather %x, %i : (tensor<2xf32>, tensor<1xi32>) -> tensor<1xf32> return }",
       {pair},
       "reads row 5 of a table of 2 rows"},
      {"func.func @f(%x: tensor<2xf32>) { %i = moe.constant {value = dense<2> : tensor<i32>} : () -> tensor<i32> "
       "%0:2 = moe.softmax_cross_entropy %x, %i {ignore_index = -1 : i64} : (tensor<2xf32>, tensor<i32>) -> "
       "(tensor<f32>, tensor<f32>) return }",
       {pair},
       "label 2 of row 0 is outside of the 2 classes"},
      {"func.func @f() { %i = moe.constant {value = dense<0> : tensor<2xi32>} : () -> tensor<2xi32> "
       "%0 = moe.div %i, %i : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32> return }",
       {},
       "divides an integer by zero"}};
  for (const BadModule &bad : modules) {
    IrContext ir;
    auto module = ir.parse(bad.text);
    ASSERT_TRUE(module) << bad.text << "\n" << ir.messages();
    InterpreterState state(*module);
    EXPECT_TRUE(failed(interpret(*module, "f", bad.inputs, state))) << bad.text;
    EXPECT_NE(ir.messages().find(bad.message), std::string::npos) << bad.text << "\n" << ir.messages();
  }
}

TEST(Interpreter, ReadsConstantsOfEveryStorage) {
  IrContext ir;
  auto module = ir.parse(R"(
    func.func @f() -> (tensor<3xf32>, tensor<2xbf16>, tensor<3xi1>, tensor<2xi32>, tensor<3xf32>, tensor<2xi8>) {
      %0 = moe.constant {value = dense<0.5> : tensor<3xf32>} : () -> tensor<3xf32>
      %1 = moe.constant {value = dense<[1.5, -2.0]> : tensor<2xbf16>} : () -> tensor<2xbf16>
      %2 = moe.constant {value = dense<[true, false, true]> : tensor<3xi1>} : () -> tensor<3xi1>
      %3 = moe.constant {value = dense<[-1, 5]> : tensor<2xi32>} : () -> tensor<2xi32>
      %4 = moe.constant {value = dense_resource<floats> : tensor<3xf32>} : () -> tensor<3xf32>
      %5 = moe.constant {value = dense_resource<bytes> : tensor<2xi8>} : () -> tensor<2xi8>
      return %0, %1, %2, %3, %4, %5
        : tensor<3xf32>, tensor<2xbf16>, tensor<3xi1>, tensor<2xi32>, tensor<3xf32>, tensor<2xi8>
    }
    {-# dialect_resources: { builtin: {
      floats: "0x040000000000803F00000040000080BF",
      bytes: "0x01000000FF07"
    } } #-})");
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> results = evaluate(*module, "f", {});
  ASSERT_EQ(results.size(), 6u) << ir.messages();
  EXPECT_EQ(results[0].floats, (std::vector<double>{0.5, 0.5, 0.5}));
  EXPECT_EQ(results[1].floats, (std::vector<double>{1.5, -2}));
  EXPECT_EQ(results[2].ints, (std::vector<int64_t>{1, 0, 1}));
  EXPECT_EQ(results[3].ints, (std::vector<int64_t>{-1, 5}));
  EXPECT_EQ(results[4].floats, (std::vector<double>{1, 2, -1}));
  EXPECT_EQ(results[5].ints, (std::vector<int64_t>{-1, 7}));
}

} // namespace
