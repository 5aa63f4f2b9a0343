//===- ReferenceTest.cpp - Hand-computed results of the fine operations -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "test/ir/TestSupport.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

using namespace mlir;
using namespace moe::ir;
using namespace moe::test;

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

/// An operation, the elements of its operands and of its results.
struct ReferenceCase {
  std::string text;
  std::vector<std::vector<double>> inputs, results;
};

std::vector<ReferenceCase> unaryCases() {
  const std::vector<double> x = {-1.5, 0, 0.75};
  const std::vector<std::pair<const char *, std::vector<double>>> functions = {
      {"neg", {1.5, 0, -0.75}},
      {"abs", {1.5, 0, 0.75}},
      {"relu", {0, 0, 0.75}},
      {"exp", {0.22313016014842982, 1, 2.117000016612675}},
      {"tanh", {-0.9051482536448664, 0, 0.6351489523872873}},
      {"erf", {-0.9661051464753108, 0, 0.7111556336535151}},
      {"sin", {-0.9974949866040544, 0, 0.6816387600233341}},
      {"cos", {0.0707372016677029, 1, 0.7316888688738209}},
      {"sigmoid", {0.18242552380635635, 0.5, 0.679178699175393}},
      {"gelu", {-0.10021080190328713, 0, 0.5800294857173488}}};
  std::vector<ReferenceCase> cases;
  for (const auto &[name, values] : functions)
    cases.push_back({std::string("moe.") + name + " %0 : (tensor<3xf64>) -> tensor<3xf64>", {x}, {values}});
  return cases;
}

const std::string pairOfFloats = " %0, %1 : (tensor<3xf64>, tensor<3xf64>) -> tensor<3xf64>";
const std::string pairOfInts = " %0, %1 : (tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>";

std::vector<ReferenceCase> binaryCases() {
  const std::vector<double> a = {-6, 3, 2}, b = {4, 3, 0.5}, i = {-7, 7, 6}, j = {2, -2, 3};
  std::vector<ReferenceCase> cases = {
      {"moe.add" + pairOfFloats, {a, b}, {{-2, 6, 2.5}}},
      {"moe.sub" + pairOfFloats, {a, b}, {{-10, 0, 1.5}}},
      {"moe.mul" + pairOfFloats, {a, b}, {{-24, 9, 1}}},
      {"moe.div" + pairOfFloats, {a, b}, {{-1.5, 1, 4}}},
      {"moe.max" + pairOfFloats, {{-6, nan, 2}, {4, 3, nan}}, {{4, nan, nan}}},
      {"moe.min" + pairOfFloats, {{-6, nan, 2}, {4, 3, nan}}, {{-6, nan, nan}}},
      {"moe.pow" + pairOfFloats, {{-6, 3, 4}, {2, -1, 0.5}}, {{36, 1.0 / 3, 2}}},
      {"moe.add" + pairOfInts, {{2147483647, 1, 2}, {1, 2, 3}}, {{-2147483648.0, 3, 5}}},
      {"moe.sub" + pairOfInts, {i, j}, {{-9, 9, 3}}},
      {"moe.mul" + pairOfInts, {{65536, 1, 2}, {65536, 2, 3}}, {{0, 2, 6}}},
      {"moe.div" + pairOfInts, {i, j}, {{-3, -3, 2}}},
      {"moe.max" + pairOfInts, {i, j}, {{2, 7, 6}}},
      {"moe.min" + pairOfInts, {i, j}, {{-7, -2, 3}}},
      {"moe.and" + pairOfInts, {{12, 5, -1}, {10, 2, 7}}, {{8, 0, 7}}},
      {"moe.or" + pairOfInts, {{12, 5, -1}, {10, 2, 7}}, {{14, 7, -1}}},
      {"moe.and %0, %1 : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>", {{0, 0, 1, 1}, {0, 1, 0, 1}}, {{0, 0, 0, 1}}},
      {"moe.or %0, %1 : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>", {{0, 0, 1, 1}, {0, 1, 0, 1}}, {{0, 1, 1, 1}}}};
  const std::vector<std::vector<double>> comparisons = {{0, 1, 0, 0}, {1, 0, 1, 1}, {1, 0, 0, 0},
                                                        {1, 1, 0, 0}, {0, 0, 1, 0}, {0, 1, 1, 0}};
  for (size_t predicate = 0; predicate < comparisons.size(); ++predicate)
    cases.push_back({"moe.compare %0, %1 {predicate = " + std::to_string(predicate) +
                         " : i32} : (tensor<4xf64>, tensor<4xf64>) -> tensor<4xi1>",
                     {{1, 2, 3, nan}, {2, 2, 2, nan}},
                     {comparisons[predicate]}});
  return cases;
}

std::vector<ReferenceCase> otherElementwiseCases() {
  return {{"moe.log %0 : (tensor<2xf64>) -> tensor<2xf64>", {{1, 10}}, {{0, 2.302585092994046}}},
          {"moe.sqrt %0 : (tensor<2xf64>) -> tensor<2xf64>", {{2.25, 0}}, {{1.5, 0}}},
          {"moe.rsqrt %0 : (tensor<2xf64>) -> tensor<2xf64>", {{6.25, 0}}, {{0.4, inf}}},
          {"moe.relu %0 : (tensor<2xf64>) -> tensor<2xf64>", {{nan, -inf}}, {{nan, 0}}},
          {"moe.gelu %0 {approximate = 1 : i32} : (tensor<3xf64>) -> tensor<3xf64>",
           {{-1.5, 0, 0.75}},
           {{-0.10042842301976707, 0, 0.5799605551656203}}},
          {"moe.is_finite %0 : (tensor<4xf64>) -> tensor<4xi1>", {{1, inf, nan, -inf}}, {{1, 0, 0, 0}}},
          {"moe.not %0 : (tensor<2xi1>) -> tensor<2xi1>", {{1, 0}}, {{0, 1}}},
          {"moe.add_n %0, %1, %2 : (tensor<1xf64>, tensor<1xf64>, tensor<1xf64>) -> tensor<1xf64>",
           {{1e16}, {1}, {-1e16}},
           {{0}}}, // from left to right: the 1 is lost
          {"moe.select %0, %1, %2 : (tensor<2xi1>, tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>",
           {{1, 0}, {1, 2}, {3, 4}},
           {{1, 4}}},
          {"moe.cast %0 {to = i32} : (tensor<5xf64>) -> tensor<5xi32>",
           {{-1.9, 1.9, nan, 1e12, -inf}},
           {{-1, 1, 0, 2147483647, -2147483648.0}}},
          {"moe.cast %0 {to = i1} : (tensor<3xf64>) -> tensor<3xi1>", {{0.25, 0, nan}}, {{1, 0, 1}}},
          {"moe.cast %0 {to = i1} : (tensor<2xi32>) -> tensor<2xi1>", {{2, 0}}, {{1, 0}}},
          {"moe.cast %0 {to = f32} : (tensor<2xi1>) -> tensor<2xf32>", {{1, 0}}, {{1, 0}}},
          {"moe.cast %0 {to = i8} : (tensor<2xi32>) -> tensor<2xi8>", {{300, -1}}, {{44, -1}}},
          {"moe.scale_gradient %0 {factor = 3.0 : f64} : (tensor<2xf64>) -> tensor<2xf64>", {{1, -2}}, {{1, -2}}}};
}

std::vector<ReferenceCase> movementCases() {
  const std::vector<double> six = {1, 2, 3, 4, 5, 6};
  return {{"moe.broadcast %0 {dims = array<i64: 1>} : (tensor<2xi32>) -> tensor<2x2x2xi32>",
           {{7, 8}},
           {{7, 7, 8, 8, 7, 7, 8, 8}}},
          {"moe.reshape %0 : (tensor<2x3xf64>) -> tensor<3x2xf64>", {six}, {six}},
          {"moe.transpose %0 {permutation = array<i64: 1, 0>} : (tensor<2x3xi64>) -> tensor<3x2xi64>",
           {six},
           {{1, 4, 2, 5, 3, 6}}},
          // A three-cycle tells a permutation from its inverse.
          {"moe.transpose %0 {permutation = array<i64: 1, 2, 0>} : (tensor<2x3x1xf64>) -> tensor<3x1x2xf64>",
           {six},
           {{1, 4, 2, 5, 3, 6}}},
          {"moe.slice %0 {starts = array<i64: 0, 1>, limits = array<i64: 3, 2>, strides = array<i64: 2, 1>} : "
           "(tensor<3x2xf64>) -> tensor<2x1xf64>",
           {six},
           {{2, 6}}},
          {"moe.pad %0 {low = array<i64: 1>, high = array<i64: 2>, interior = array<i64: 1>} : (tensor<3xi32>) -> "
           "tensor<8xi32>",
           {{1, 2, 3}},
           {{0, 1, 0, 2, 0, 3, 0, 0}}},
          {"moe.concat %0, %1 {dim = 1 : i64} : (tensor<2x1xf64>, tensor<2x2xf64>) -> tensor<2x3xf64>",
           {{1, 2}, {3, 4, 5, 6}},
           {{1, 3, 4, 2, 5, 6}}},
          {"moe.gather %0, %1 : (tensor<3x2xf64>, tensor<2x2xi32>) -> tensor<2x2x2xf64>",
           {six, {2, -1, 0, 2}},
           {{5, 6, 0, 0, 1, 2, 5, 6}}},
          {"moe.scatter_add %0, %1 : (tensor<3xi32>, tensor<3x2xf64>) -> tensor<2x2xf64>",
           {{1, -1, 1}, six},
           {{0, 0, 6, 8}}},
          {"moe.scatter_add %0, %1, %2 : (tensor<1xi64>, tensor<1xf64>, tensor<2xf64>) -> tensor<2xf64>",
           {{0}, {5}, {1, 2}},
           {{6, 2}}}};
}

std::vector<ReferenceCase> combinationCases() {
  const std::vector<double> six = {1, 2, 3, 4, 5, 6};
  const std::string reduce = "moe.reduce %0 {kind = ";
  const std::string cumsum = "moe.cumsum %0 {dim = 0 : i64";
  const std::string column = "} : (tensor<3x2xf64>) -> tensor<3x2xf64>";
  return {
      {reduce + "0 : i32, dims = array<i64: 1>} : (tensor<2x3xf64>) -> tensor<2xf64>", {six}, {{6, 15}}},
      {reduce + "0 : i32, dims = array<i64: 0>} : (tensor<2x3xi32>) -> tensor<3xi32>", {six}, {{5, 7, 9}}},
      {reduce + "1 : i32, dims = array<i64: 0, 1>} : (tensor<2x3xf64>) -> tensor<f64>",
       {{-3, -2, -7, -1, -5, -6}},
       {{-1}}},
      {reduce + "2 : i32, dims = array<i64: 1>} : (tensor<2x3xf64>) -> tensor<2xf64>",
       {{3, 2, 7, 5, nan, 6}},
       {{2, nan}}},
      {reduce + "1 : i32, dims = array<i64: 1>} : (tensor<2x3xi32>) -> tensor<2xi32>",
       {{-3, -2, -7, 5, 0, 6}},
       {{-2, 6}}},
      {cumsum + column, {six}, {{1, 2, 4, 6, 9, 12}}},
      {cumsum + ", exclusive" + column, {six}, {{0, 0, 1, 2, 4, 6}}},
      {cumsum + ", reverse" + column, {six}, {{9, 12, 8, 10, 5, 6}}},
      {cumsum + ", exclusive, reverse" + column, {six}, {{8, 10, 5, 6, 0, 0}}},
      {"moe.cumsum %0 {dim = 1 : i64, exclusive} : (tensor<2x3xi64>) -> tensor<2x3xi64>", {six}, {{0, 1, 3, 0, 4, 9}}},
      {"moe.sort %0 : (tensor<2x3xf64>) -> (tensor<2x3xf64>, tensor<2x3xi32>)",
       {{nan, 1, 2, 5, 5, 7}},
       {{2, 1, nan, 7, 5, 5}, {2, 1, 0, 2, 0, 1}}},
      {"moe.sort %0 : (tensor<4xi32>) -> (tensor<4xi32>, tensor<4xi32>)", {{1, 3, 1, 2}}, {{3, 2, 1, 1}, {1, 3, 0, 2}}},
      // [[1,2,3],[4,5,6]] times the transpose of [[1,0,1],[2,1,0]]
      {"moe.dot %0, %1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, "
       "rhs_contract = array<i64: 1>} : (tensor<2x3xf64>, tensor<2x3xf64>) -> tensor<2x2xf64>",
       {six, {1, 0, 1, 2, 1, 0}},
       {{4, 4, 10, 13}}},
      // Batches are columns of lhs and rows of rhs: result[b,m] = lhs[m,b] rhs[b].
      {"moe.dot %0, %1 {lhs_batch = array<i64: 1>, rhs_batch = array<i64: 0>, lhs_contract = array<i64>, "
       "rhs_contract = array<i64>} : (tensor<2x3xf64>, tensor<3xf64>) -> tensor<3x2xf64>",
       {six, {1, 10, 100}},
       {{1, 4, 20, 50, 300, 600}}},
      // Two contracted pairs, crossed: sum_ij a[i,j] b[j,i].
      {"moe.dot %0, %1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0, 1>, "
       "rhs_contract = array<i64: 1, 0>} : (tensor<2x3xf64>, tensor<3x2xf64>) -> tensor<f64>",
       {six, {1, 0, 0, 10, 100, 0}},
       {{351}}}};
}

std::vector<ReferenceCase> allCases() {
  std::vector<ReferenceCase> all;
  for (const std::vector<ReferenceCase> &cases :
       {unaryCases(), binaryCases(), otherElementwiseCases(), movementCases(), combinationCases()})
    all.insert(all.end(), cases.begin(), cases.end());
  return all;
}

HostTensor filled(Type type, const std::vector<double> &elements) {
  HostTensor tensor(cast<RankedTensorType>(type));
  if (tensor.isFloat)
    tensor.floats = elements;
  else
    tensor.ints.assign(elements.begin(), elements.end());
  return tensor;
}

TEST(Reference, FineOperations) {
  for (const ReferenceCase &example : allCases()) {
    SCOPED_TRACE(example.text);
    IrContext ir;
    auto module = ir.parse(functionAround(example.text));
    ASSERT_TRUE(module) << ir.messages();
    std::vector<HostTensor> inputs;
    auto function = module->lookupSymbol<func::FuncOp>("f");
    for (Type type : function.getArgumentTypes())
      inputs.push_back(filled(type, example.inputs.at(inputs.size())));
    std::vector<HostTensor> results = evaluate(*module, "f", inputs);
    ASSERT_EQ(results.size(), example.results.size()) << ir.messages();
    for (size_t r = 0; r < results.size(); ++r) {
      ASSERT_EQ(results[r].size(), static_cast<int64_t>(example.results[r].size()));
      for (int64_t i = 0; i < results[r].size(); ++i) {
        double expected = example.results[r][i], value = results[r].at(i);
        if (std::isnan(expected)) {
          EXPECT_TRUE(std::isnan(value)) << "element " << i << " is " << value;
        } else {
          EXPECT_DOUBLE_EQ(value, expected) << "result " << r << ", element " << i;
        }
      }
    }
  }
}

TEST(Reference, IotaCountsAlongItsDimension) {
  IrContext ir;
  auto module = ir.parse(R"(
    func.func @f() -> (tensor<2x3xi32>, tensor<2x3xf32>) {
      %0 = moe.iota {dim = 1 : i64} : () -> tensor<2x3xi32>
      %1 = moe.iota {dim = 0 : i64} : () -> tensor<2x3xf32>
      return %0, %1 : tensor<2x3xi32>, tensor<2x3xf32>
    })");
  ASSERT_TRUE(module) << ir.messages();
  std::vector<HostTensor> results = evaluate(*module, "f", {});
  ASSERT_EQ(results.size(), 2u) << ir.messages();
  EXPECT_EQ(results[0].ints, (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(results[1].floats, (std::vector<double>{0, 0, 0, 1, 1, 1}));
}

} // namespace
