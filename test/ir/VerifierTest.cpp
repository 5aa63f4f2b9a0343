//===- VerifierTest.cpp - What would make an oracle read beyond its data is rejected before ---------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/TestSupport.h"
#include <gtest/gtest.h>

using namespace moe::test;

namespace {

struct Rejected {
  std::string text;
  const char *message;
};

TEST(Verifier, RejectsWhatHasNoMeaning) {
  const std::vector<Rejected> cases = {
      {functionAround("moe.softmax %0 : (tensor<f32>) -> tensor<f32>"), "softmax needs a dimension"},
      {functionAround("moe.softmax %0 : (tensor<3x0xf32>) -> tensor<3x0xf32>"), "softmax needs a dimension"},
      {functionAround(
           "moe.layer_norm %0, %1, %2 {epsilon = 0.1 : f64} : (tensor<3x0xf32>, tensor<0xf32>, tensor<0xf32>) "
           "-> (tensor<3x0xf32>, tensor<3xf32>, tensor<3xf32>)"),
       "layer_norm needs a dimension"},
      {functionAround("moe.softmax_cross_entropy %0, %1 {ignore_index = 1 : i64} : (tensor<3x0xf32>, tensor<3xi32>) -> "
                      "(tensor<3xf32>, tensor<3xf32>)"),
       "needs at least one class"},
      {functionAround("moe.attention %0, %1, %2 {scale = 1.0 : f64} : (tensor<1x3x1x1xf32>, tensor<1x0x1x1xf32>, "
                      "tensor<1x0x1x1xf32>) -> (tensor<1x3x1x1xf32>, tensor<1x1x3xf32>)"),
       "needs at least one key"},
      {functionAround("moe.attention %0, %1, %2 padding %3 {scale = 1.0 : f64} : (tensor<2x3x1x1xf32>, "
                      "tensor<2x4x1x1xf32>, tensor<2x4x1x1xf32>, tensor<2x3xi1>) -> (tensor<2x3x1x1xf32>, "
                      "tensor<2x1x3xf32>)"),
       "padding must be [batch, keys]"},
      {functionAround(
           "moe.rms_norm %0, %1 {epsilon = 0.1 : f64} : (tensor<3x0xf32>, tensor<0xf32>) -> (tensor<3x0xf32>, "
           "tensor<3xf32>)"),
       "rms_norm needs a dimension"},
      {functionAround(
           "moe.rms_norm %0, %1 {epsilon = 0.1 : f64} : (tensor<3x2xf32>, tensor<3xf32>) -> (tensor<3x2xf32>, "
           "tensor<3xf32>)"),
       "needs a scale of size 2"},
      {functionAround(
           "moe.attention %0, %1, %2 bias %3 {scale = 1.0 : f64, bias_dims = array<i64: 1, 2>} : (tensor<1x3x2x1xf32>, "
           "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>, tensor<3x2xf32>) -> (tensor<1x3x2x1xf32>, "
           "tensor<1x2x3xf32>)"),
       "a part of the scores [1, 2, 3, 4]"},
      {functionAround(
           "moe.attention %0, %1, %2 bias %3 {scale = 1.0 : f64, bias_dims = array<i64: 2, 1>} : (tensor<1x3x2x1xf32>, "
           "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>, tensor<3x2xf32>) -> (tensor<1x3x2x1xf32>, "
           "tensor<1x2x3xf32>)"),
       "a part of the scores"},
      {functionAround(
           "moe.attention %0, %1, %2 bias %3 {scale = 1.0 : f64, bias_dims = array<i64: 4>} : (tensor<1x3x2x1xf32>, "
           "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>, tensor<3xf32>) -> (tensor<1x3x2x1xf32>, "
           "tensor<1x2x3xf32>)"),
       "a part of the scores"},
      {functionAround(
           "moe.attention %0, %1, %2 bias %3 {scale = 1.0 : f64, bias_dims = array<i64: 2>} : (tensor<1x3x2x1xf32>, "
           "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>, tensor<3x4xf32>) -> (tensor<1x3x2x1xf32>, "
           "tensor<1x2x3xf32>)"),
       "a part of the scores"},
      {functionAround(
           "moe.attention %0, %1, %2 bias %3 {scale = 1.0 : f64, bias_dims = array<i64: 3>} : (tensor<1x3x2x1xf32>, "
           "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>, tensor<4xf64>) -> (tensor<1x3x2x1xf32>, "
           "tensor<1x2x3xf32>)"),
       "in the type of the query"},
      {functionAround("moe.attention %0, %1, %2 {scale = 1.0 : f64, bias_dims = array<i64: 3>} : (tensor<1x3x2x1xf32>, "
                      "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>) -> (tensor<1x3x2x1xf32>, "
                      "tensor<1x2x3xf32>)"),
       "bias_dims but no bias"},
      {functionAround("moe.attention %0, %1, %2 sinks %3 {scale = 1.0 : f64} : (tensor<1x3x2x1xf32>, "
                      "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>, tensor<3xf32>) -> (tensor<1x3x2x1xf32>, "
                      "tensor<1x2x3xf32>)"),
       "one 'f32' per head"},
      {functionAround("moe.attention %0, %1, %2 {scale = 1.0 : f64, softcap = -1.0 : f64} : (tensor<1x3x2x1xf32>, "
                      "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>) -> (tensor<1x3x2x1xf32>, "
                      "tensor<1x2x3xf32>)"),
       "softcap -1"},
      {functionAround("moe.attention %0, %1, %2 {scale = 1.0 : f64, window = -1 : i64} : (tensor<1x3x2x1xf32>, "
                      "tensor<1x4x2x1xf32>, tensor<1x4x2x1xf32>) -> (tensor<1x3x2x1xf32>, "
                      "tensor<1x2x3xf32>)"),
       "window -1 is negative"},
      {functionAround("moe.pow %0, %1 : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>"), "is not defined on"},
      {functionAround("moe.and %0, %1 : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>"), "is not defined on"},
      {functionAround("moe.add %0, %1 : (tensor<2xindex>, tensor<2xindex>) -> tensor<2xindex>"), "numbers or booleans"},
      {"func.func @f(%0: tensor<4xf32>) { %1 = moe.reshape %0 : (tensor<4xf32>) -> "
       "tensor<2x2xf32, #moe.layout<data = replicate>> return }",
       "changes the layout"},
      {"moe.state parameter @a : tensor<2xf32> {bucket = @b, offset = 0 : i64}", "lies in @b, which is no moe.state"},
      {"moe.state parameter @a : tensor<2xf32> {bucket = @b, offset = 3 : i64}\n"
       "moe.state parameter @b : tensor<4xf32>",
       "ends after its bucket"},
      {"moe.state parameter @a : tensor<2xf32> {bucket = @b, offset = 0 : i64}\n"
       "moe.state parameter @b : tensor<4xf64>",
       "no flat state of 'f32'"},
      {"moe.state parameter @a : tensor<2xf32> {bucket = @a, offset = 0 : i64}", "no flat state"},
      {"moe.state gradient @a : tensor<2xf32> {of = @w}", "belongs to @w, which is no moe.state"},
      {"moe.state parameter @a : tensor<2xf32> {initial = \"ones\"}", "neither a number"},
      {"moe.state parameter @a : tensor<2xf32> {initial = {norml = [0.0, 1.0]}}", "neither a number"},
      {"moe.state parameter @a : tensor<2xf32> {initial = {data = dense<1.0> : tensor<3xf32>}}",
       "has initial data that"},
      {"func.func @f(%0: tensor<2xf32>) { %1 = moe.fused \"loop\"(%0) : (tensor<2xf32>) -> tensor<2xf32> {\n"
       "^bb0(%a: tensor<2xf32>):\n %2 = func.call @g(%a) : (tensor<2xf32>) -> tensor<2xf32>\n"
       "moe.yield %2 : tensor<2xf32> } return }\nfunc.func private @g(tensor<2xf32>) -> tensor<2xf32>",
       "cannot be part of a fused region"}};
  for (const Rejected &rejected : cases) {
    IrContext ir;
    EXPECT_FALSE(ir.parse(rejected.text)) << rejected.text;
    EXPECT_NE(ir.messages().find(rejected.message), std::string::npos) << rejected.text << "\n" << ir.messages();
  }
}

} // namespace
