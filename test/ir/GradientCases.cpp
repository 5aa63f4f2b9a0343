//===- GradientCases.cpp - One or more uses of every differentiable operation -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/GradientCases.h"

#include "ir/GroupedRows.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/STLExtras.h"

#include <array>

using namespace mlir;

namespace moe::test {

namespace {

const CaseInput positive = {0.3, 2.5};
const CaseInput anything = {};

CaseInput ints(std::vector<int64_t> values) {
  return {0, 0, std::move(values)};
}

/// expert, slot and token of two groups of three tokens, two choices, three experts of capacity two; some choices are
/// dropped, some slots empty.
const CaseInput expertIndex = ints({0, 1, 0, 2, 0, 1, 2, 0, 1, 2, 1, 0});
const CaseInput slotIndex = ints({0, 0, 1, 0, -1, 1, 0, 0, 1, -1, 0, 1});
const CaseInput tokenIndex = ints({0, 2, 1, 5, 1, 5, 4, 2, 3, -1, 0, -1});

/// Attention with bias, softcap, window, sinks.
template <typename Add> void addChangedScores(Add add) {
  const std::string grouped = "(tensor<2x3x4x5xf64>, tensor<2x7x2x5xf64>, tensor<2x7x2x5xf64>",
                    groupedResults = ") -> (tensor<2x3x4x5xf64>, tensor<2x4x3xf64>)";
  add("moe.attention %0, %1, %2 bias %3 {scale = 0.7 : f64, bias_dims = array<i64: 0, 1, 2, 3>} : " + grouped +
      ", tensor<2x4x3x7xf64>" + groupedResults);
  add("moe.attention %0, %1, %2 bias %3 {scale = 0.7 : f64, bias_dims = array<i64: 1, 3>, causal} : " + grouped +
      ", tensor<4x7xf64>" + groupedResults);
  add("moe.attention %0, %1, %2 bias %3 {scale = 0.7 : f64, bias_dims = array<i64>} : " + grouped + ", tensor<f64>" +
      groupedResults);
  // Saturates: scores of both signs are several times the cap.
  add("moe.attention %0, %1, %2 {scale = 1.5 : f64, softcap = 0.8 : f64} : " + grouped + groupedResults);
  add("moe.attention %0, %1, %2 {scale = 0.7 : f64, window = 2 : i64, causal} : " + grouped + groupedResults);
  add("moe.attention %0, %1, %2 {scale = 0.7 : f64, window = 5 : i64} : " + grouped + groupedResults);
  add("moe.attention %0, %1, %2 sinks %3 {scale = 0.7 : f64} : " + grouped + ", tensor<4xf64>" + groupedResults);
  // Keys 0 and 1 of the second batch are padding: its first two queries see only the sink.
  add("moe.attention %0, %1, %2 padding %3 rng %4 bias %5 sinks %6 {scale = 0.7 : f64, causal, rate = 0.3 : f64, "
      "seed = 5 : i64, site = 9 : i64, bias_dims = array<i64: 0, 2>, softcap = 1.5 : f64} : (tensor<2x3x2x5xf64>, "
      "tensor<2x3x2x5xf64>, tensor<2x3x2x5xf64>, tensor<2x3xi1>, tensor<2xi64>, tensor<2x3xf64>, tensor<2xf64>) -> "
      "(tensor<2x3x2x5xf64>, tensor<2x2x3xf64>)",
      std::vector<CaseInput>{anything, anything, anything, ints({0, 1, 0, 1, 1, 0}), ints({4, 1})});
  // The same without the bias, by attention_backward.
  add("moe.attention %0, %1, %2 padding %3 rng %4 sinks %5 {scale = 0.7 : f64, causal, rate = 0.3 : f64, seed = 5 : "
      "i64, site = 9 : i64, softcap = 1.5 : f64, window = 2 : i64} : (tensor<2x3x2x5xf64>, tensor<2x3x2x5xf64>, "
      "tensor<2x3x2x5xf64>, tensor<2x3xi1>, tensor<2xi64>, tensor<2xf64>) -> (tensor<2x3x2x5xf64>, tensor<2x2x3xf64>)",
      std::vector<CaseInput>{anything, anything, anything, ints({0, 1, 0, 1, 1, 0}), ints({4, 1})});
  // Without a sink those queries see nothing.
  add("moe.attention %0, %1, %2 padding %3 {scale = 0.7 : f64, causal, window = 2 : i64} : (tensor<2x3x2x5xf64>, "
      "tensor<2x3x2x5xf64>, tensor<2x3x2x5xf64>, tensor<2x3xi1>) -> (tensor<2x3x2x5xf64>, tensor<2x2x3xf64>)",
      std::vector<CaseInput>{anything, anything, anything, ints({0, 1, 0, 1, 1, 0})});
}

std::vector<OperationCase> makeDifferentiableCases() {
  std::vector<OperationCase> cases;
  auto add = [&](std::string operation, std::vector<CaseInput> inputs = {}, std::vector<unsigned> results = {0},
                 double factor = 1) {
    cases.push_back({std::move(operation), std::move(inputs), std::move(results), factor});
  };

  // Elementwise.
  for (const char *name : {"neg", "abs", "exp", "tanh", "erf", "sigmoid", "sin", "cos", "relu", "gelu"})
    add(std::string("moe.") + name + " %0 : (tensor<3x5xf64>) -> tensor<3x5xf64>");
  for (const char *name : {"log", "sqrt", "rsqrt"})
    add(std::string("moe.") + name + " %0 : (tensor<17xf64>) -> tensor<17xf64>", {positive});
  add("moe.gelu %0 {approximate = 1 : i32} : (tensor<17xf64>) -> tensor<17xf64>");
  for (const char *name : {"add", "sub", "mul", "max", "min"})
    add(std::string("moe.") + name + " %0, %1 : (tensor<3x5xf64>, tensor<3x5xf64>) -> tensor<3x5xf64>");
  for (const char *name : {"div", "pow"})
    add(std::string("moe.") + name + " %0, %1 : (tensor<7xf64>, tensor<7xf64>) -> tensor<7xf64>", {positive, positive});
  add("moe.pow %0, %1 : (tensor<7xf64>, tensor<7xf64>) -> tensor<7xf64>", {positive, {-2, -1}});
  add("moe.add_n %0 : (tensor<5xf64>) -> tensor<5xf64>");
  add("moe.add_n %0, %1, %2 : (tensor<5xf64>, tensor<5xf64>, tensor<5xf64>) -> tensor<5xf64>");
  add("moe.select %0, %1, %2 : (tensor<5xi1>, tensor<5xf64>, tensor<5xf64>) -> tensor<5xf64>", {ints({1, 0, 0, 1, 1})});
  add("moe.cast %0 {to = f32} : (tensor<5xf64>) -> tensor<5xf32>");
  add("moe.cast %0 {to = f64} : (tensor<5xbf16>) -> tensor<5xf64>");
  add("moe.dropout %0, %1 {rate = 0.4 : f64, seed = 7 : i64, site = 11 : i64} "
      ": (tensor<5x7xf64>, tensor<2xi64>) -> tensor<5x7xf64>",
      {anything, ints({3, 2})});
  add("moe.scale_gradient %0 {factor = 2.5 : f64} : (tensor<5xf64>) -> tensor<5xf64>", {}, {0}, 2.5);

  // Tensor algebra.
  add("moe.broadcast %0 {dims = array<i64: 1>} : (tensor<5xf64>) -> tensor<3x5x2xf64>");
  add("moe.broadcast %0 {dims = array<i64: 0, 2>} : (tensor<3x2xf64>) -> tensor<3x5x2xf64>");
  add("moe.broadcast %0 {dims = array<i64>} : (tensor<f64>) -> tensor<3x2xf64>");
  add("moe.reshape %0 : (tensor<3x10xf64>) -> tensor<5x2x3xf64>");
  add("moe.transpose %0 {permutation = array<i64: 2, 0, 1>} : (tensor<3x5x2xf64>) -> tensor<2x3x5xf64>");
  add("moe.slice %0 {starts = array<i64: 1, 0>, limits = array<i64: 6, 5>, strides = array<i64: 2, 3>} "
      ": (tensor<7x5xf64>) -> tensor<3x2xf64>");
  add("moe.slice %0 {starts = array<i64: 1>, limits = array<i64: 7>, strides = array<i64: 4>} "
      ": (tensor<9xf64>) -> tensor<2xf64>");
  add("moe.pad %0 {low = array<i64: 1, 0>, high = array<i64: 0, 2>, interior = array<i64: 2, 0>} "
      ": (tensor<3x2xf64>) -> tensor<8x4xf64>");
  add("moe.concat %0, %1, %2 {dim = 1 : i64} : (tensor<3x1xf64>, tensor<3x4xf64>, tensor<3x2xf64>) -> tensor<3x7xf64>");
  for (int kind = 0; kind < 3; ++kind)
    add("moe.reduce %0 {kind = " + std::to_string(kind) +
        " : i32, dims = array<i64: 0, 2>} : (tensor<3x5x2xf64>) -> tensor<5xf64>");
  add("moe.reduce %0 {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<3x5xf64>) -> tensor<f64>");
  add("moe.reduce %0 {kind = 1 : i32, dims = array<i64: 1>} : (tensor<3x5xf64>) -> tensor<3xf64>");
  for (const char *flags : {"", ", exclusive", ", reverse", ", exclusive, reverse"})
    add(std::string("moe.cumsum %0 {dim = 1 : i64") + flags + "} : (tensor<2x5x3xf64>) -> tensor<2x5x3xf64>");
  for (const char *shape : {"3x2x5", "7", "4x1"})
    add(std::string("moe.sort %0 : (tensor<") + shape + "xf64>) -> (tensor<" + shape + "xf64>, tensor<" + shape +
        "xi32>)");
  add("moe.dot %0, %1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, "
      "rhs_contract = array<i64: 1>} : (tensor<2x3x5xf64>, tensor<7x5xf64>) -> tensor<2x3x7xf64>");
  add("moe.dot %0, %1 {lhs_batch = array<i64: 0, 2>, rhs_batch = array<i64: 3, 1>, lhs_contract = array<i64: 3>, "
      "rhs_contract = array<i64: 0>} : (tensor<2x3x5x7xf64>, tensor<7x5x4x2xf64>) -> tensor<2x5x3x4xf64>");
  add("moe.dot %0, %1 {lhs_batch = array<i64: 1>, rhs_batch = array<i64: 2>, lhs_contract = array<i64: 3, 0>, "
      "rhs_contract = array<i64: 1, 3>} : (tensor<2x3x5x7xf64>, tensor<4x7x3x2xf64>) -> tensor<3x5x4xf64>");
  add("moe.dot %0, %1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64>, "
      "rhs_contract = array<i64>} : (tensor<3xf64>, tensor<5xf64>) -> tensor<3x5xf64>");
  add("moe.dot %0, %1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, "
      "rhs_contract = array<i64: 0>} : (tensor<5xf64>, tensor<5xf64>) -> tensor<f64>");
  add("moe.gather %0, %1 : (tensor<4x3xf64>, tensor<2x3xi32>) -> tensor<2x3x3xf64>",
      {anything, ints({3, -1, 0, 3, 3, 1})});
  add("moe.gather %0, %1 : (tensor<4xf64>, tensor<5xi64>) -> tensor<5xf64>", {anything, ints({3, -1, 0, 3, 2})});
  add("moe.scatter_add %0, %1 : (tensor<2x2xi32>, tensor<2x2x3xf64>) -> tensor<4x3xf64>", {ints({1, -1, 1, 3})});
  add("moe.scatter_add %0, %1, %2 : (tensor<3xi32>, tensor<3x2xf64>, tensor<4x2xf64>) -> tensor<4x2xf64>",
      {ints({1, -1, 1})});

  // Transformers.
  add("moe.softmax %0 : (tensor<3x5xf64>) -> tensor<3x5xf64>");
  add("moe.softmax %0 : (tensor<17xf64>) -> tensor<17xf64>");
  add("moe.layer_norm %0, %1, %2 {epsilon = 1.0e-5 : f64} : (tensor<2x3x7xf64>, tensor<7xf64>, tensor<7xf64>) -> "
      "(tensor<2x3x7xf64>, tensor<2x3xf64>, tensor<2x3xf64>)");
  add("moe.layer_norm %0, %1, %2 {epsilon = 0.3 : f64} : (tensor<5xf64>, tensor<5xf64>, tensor<5xf64>) -> "
      "(tensor<5xf64>, tensor<f64>, tensor<f64>)");
  add("moe.rms_norm %0, %1 {epsilon = 1.0e-5 : f64} : (tensor<2x3x7xf64>, tensor<7xf64>) -> "
      "(tensor<2x3x7xf64>, tensor<2x3xf64>)");
  add("moe.rms_norm %0, %1 {epsilon = 0.3 : f64} : (tensor<5xf64>, tensor<5xf64>) -> (tensor<5xf64>, tensor<f64>)");
  add("moe.softmax_cross_entropy %0, %1 {ignore_index = 1 : i64} : (tensor<2x3x5xf64>, tensor<2x3xi64>) -> "
      "(tensor<2x3xf64>, tensor<2x3xf64>)",
      {anything, ints({4, 1, 0, 3, 1, 2})});
  add("moe.softmax_cross_entropy %0, %1 {ignore_index = -100 : i64} : (tensor<3x5xf64>, tensor<3xi32>) -> "
      "(tensor<3xf64>, tensor<3xf64>)",
      {anything, ints({4, -100, 0})});
  add("moe.attention %0, %1, %2 {scale = 0.5 : f64} : (tensor<2x3x4x5xf64>, tensor<2x7x4x5xf64>, "
      "tensor<2x7x4x5xf64>) -> (tensor<2x3x4x5xf64>, tensor<2x4x3xf64>)");
  add("moe.attention %0, %1, %2 {scale = 0.7 : f64, causal} : (tensor<1x3x4x5xf64>, tensor<1x5x2x5xf64>, "
      "tensor<1x5x2x5xf64>) -> (tensor<1x3x4x5xf64>, tensor<1x4x3xf64>)");
  add("moe.attention %0, %1, %2 rng %3 {scale = 0.7 : f64, causal, rate = 0.3 : f64, seed = 5 : i64, site = 9 : i64} : "
      "(tensor<2x5x2x3xf64>, tensor<2x5x1x3xf64>, tensor<2x5x1x3xf64>, tensor<2xi64>) -> "
      "(tensor<2x5x2x3xf64>, tensor<2x2x5xf64>)",
      {anything, anything, anything, ints({4, 1})});
  // Keys 0 and 1 of the second batch are padding, so that its first two queries see nothing.
  add("moe.attention %0, %1, %2 padding %3 {scale = 0.7 : f64, causal} : (tensor<2x3x2x5xf64>, tensor<2x3x2x5xf64>, "
      "tensor<2x3x2x5xf64>, tensor<2x3xi1>) -> (tensor<2x3x2x5xf64>, tensor<2x2x3xf64>)",
      {anything, anything, anything, ints({0, 1, 0, 1, 1, 0})});
  add("moe.attention %0, %1, %2 padding %3 rng %4 {scale = 0.7 : f64, rate = 0.3 : f64, seed = 5 : i64, site = 9 : "
      "i64} "
      ": (tensor<1x2x2x3xf64>, tensor<1x5x1x3xf64>, tensor<1x5x1x3xf64>, tensor<1x5xi1>, tensor<2xi64>) -> "
      "(tensor<1x2x2x3xf64>, tensor<1x2x2xf64>)",
      {anything, anything, anything, ints({0, 0, 1, 0, 1}), ints({4, 1})});
  // More queries than keys: the first two see nothing.
  add("moe.attention %0, %1, %2 {scale = 0.7 : f64, causal} : (tensor<1x5x2x3xf64>, tensor<1x3x2x3xf64>, "
      "tensor<1x3x2x3xf64>) -> (tensor<1x5x2x3xf64>, tensor<1x2x5xf64>)");
  addChangedScores(add);

  // Routing. Two groups of seven tokens, five experts; a capacity of two drops tokens.
  auto route = [&](const std::string &attributes, const std::string &segments, const std::string &operands,
                   const std::string &types, int64_t k, std::vector<CaseInput> inputs, std::vector<unsigned> results) {
    std::string choices = "tensor<2x7x" + std::to_string(k) + "x";
    add("moe.route " + operands + " {top_k = " + std::to_string(k) + " : i64, capacity = 2 : i64" + attributes +
            ", operandSegmentSizes = array<i32: " + segments + ">} : (" + types + ") -> (" + choices + "i32>, " +
            choices + "i32>, " + choices + "f64>, tensor<5x2x2xi32>, tensor<2xf64>, tensor<2x7x5xf64>, " +
            "tensor<2x5xf64>, tensor<2x9xf64>)",
        std::move(inputs), std::move(results));
  };
  const std::string logits = "tensor<2x7x5xf64>";
  for (const char *order : {"", ", batch_prioritized"})
    for (const char *normalize : {"", ", normalize_before_dropping"})
      route(std::string(normalize) + order, "1, 0, 0", "%0", logits, 2, {anything}, {2, 4});
  route("", "1, 0, 0", "%0", logits, 2, {anything}, {2});
  route("", "1, 0, 0", "%0", logits, 2, {anything}, {4});
  route("", "1, 0, 0", "%0", logits, 1, {anything}, {2, 4});
  route("", "1, 1, 0", "%0, %1", logits + ", tensor<2x7xi1>", 2,
        {anything, ints({0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0})}, {2, 4});
  for (const char *normalize : {"", ", normalize_before_dropping"}) {
    route(std::string(", policy = 1 : i32") + normalize, "1, 0, 1", "%0, %1", logits + ", tensor<2x7x5xf64>", 2,
          {anything, anything}, {2, 4});
    route(std::string(", policy = 2 : i32") + normalize, "1, 1, 1", "%0, %1, %2",
          logits + ", tensor<2x7xi1>, tensor<2x7xf64>", 2,
          {anything, ints({0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0}), {0, 1}}, {2, 4});
  }
  const std::string indices = "tensor<2x3x2xi32>, tensor<2x3x2xi32>, tensor<3x2x2xi32>";
  add("moe.dispatch %0, %1, %2, %3 : (tensor<2x3x5xf64>, " + indices + ") -> tensor<3x2x2x5xf64>",
      {anything, expertIndex, slotIndex, tokenIndex});
  add("moe.dispatch %0, %1, %2, %3, %4 : (tensor<2x3x5xf64>, " + indices + ", tensor<2x3x2xf64>) -> " +
          "tensor<3x2x2x5xf64>",
      {anything, expertIndex, slotIndex, tokenIndex});
  add("moe.combine %0, %1, %2, %3 : (tensor<3x2x2x5xf64>, " + indices + ") -> tensor<2x3x5xf64>",
      {anything, expertIndex, slotIndex, tokenIndex});
  add("moe.combine %0, %1, %2, %3, %4 : (tensor<3x2x2x5xf64>, " + indices + ", tensor<2x3x2xf64>) -> " +
          "tensor<2x3x5xf64>",
      {anything, expertIndex, slotIndex, tokenIndex});

  // Rows in blocks of one expert each; the third block has none, and neither has the second expert any rows.
  const CaseInput blocks = ints({2, 0, -1, 0});
  for (const char *transposed : {"", " {transposed}"}) {
    std::string weight = *transposed ? "tensor<4x6xf64>" : "tensor<6x4xf64>";
    std::string stacked = *transposed ? "tensor<3x4x6xf64>" : "tensor<3x6x4xf64>";
    add(std::string("moe.grouped_dot %0, %1, %2") + transposed + " : (tensor<2x4x6xf64>, tensor<2x2xi32>, " + stacked +
            ") -> tensor<2x4x4xf64>",
        {anything, blocks, anything});
    add(std::string("moe.grouped_dot %0, %1, %2, %3, %4") + transposed + " : (tensor<2x4x6xf64>, tensor<2x2xi32>, " +
            weight + ", " + weight + ", " + weight + ") -> tensor<2x4x4xf64>",
        {anything, blocks, anything, anything, anything});
  }
  // The second half of each table is for experts 2 and 3 of four.
  const CaseInput halves = ints({1, 0, -1, 1, 0, 1, 1, -1});
  for (const char *transposed : {"", "transposed, "})
    add(std::string("moe.grouped_dot %0, %1, %2 {") + transposed +
            "part_experts = 2 : i64, parts = 2 : i64} : (tensor<2x8x3xf64>, tensor<2x4xi32>, " +
            (*transposed ? "tensor<4x2x3xf64>" : "tensor<4x3x2xf64>") + ") -> tensor<2x8x2xf64>",
        {anything, halves, anything});

  // Groups of one rank: the identity. CollectivesTest has larger ones.
  const std::string between = " : (tensor<2x3xf64>) -> tensor<2x3xf64>";
  for (const char *op : {"all_reduce %0 {axes = [\"data\"]}", "all_gather %0 {axes = [\"data\"], dim = 0 : i64}",
                         "reduce_scatter %0 {axes = [\"data\"], dim = 1 : i64}",
                         "all_to_all %0 {axes = [\"data\"], from = 0 : i64, to = 1 : i64}",
                         "all_slice %0 {axes = [\"data\"], dim = 0 : i64}",
                         "pad_slice %0 {axes = [\"data\"], dim = 1 : i64}", "as_partial %0 {axes = [\"data\"]}"})
    add("moe." + std::string(op) + between);
  add("moe.bucket_join %0, %1 {offsets = array<i64: 1, 8>} : (tensor<2x3xf64>, tensor<2xf64>) -> tensor<12xf64>");
  add("moe.bucket_split %0 {offsets = array<i64: 1, 8>} : (tensor<12xf64>) -> (tensor<2x3xf64>, tensor<2xf64>)", {},
      {0, 1});
  return cases;
}

/// A case of group_rows with `chosen` [2, tokens, 2].
OperationCase groupRows(int64_t tokens, int64_t experts, int64_t block, int64_t parts, std::vector<int64_t> chosen) {
  auto number = [](int64_t value) { return std::to_string(value); };
  const int64_t blocks = parts * ir::mostBlocks(2 * tokens, experts / parts, block);
  const std::string table = "tensor<2x" + number(tokens) + "x2xi32>";
  return {"moe.group_rows %0 {experts = " + number(experts) + " : i64, block = " + number(block) +
              " : i64, parts = " + number(parts) + " : i64} : (" + table + ") -> (" + table + ", tensor<1x2x" +
              number(blocks * block) + "xi32>, tensor<2x" + number(blocks) + "xi32>)",
          {ints(std::move(chosen))}};
}

/// Cases of many chunks, with a part of one at the end. Experts below `experts`, one of them without choices, choices
/// without an expert; in the second group all choose the last expert.
std::vector<OperationCase> longTables() {
  std::vector<OperationCase> cases;
  for (auto [tokens, experts, block, parts] :
       {std::array<int64_t, 4>{23, 3, 4, 1}, {24, 4, 3, 2}, {8, 40, 1, 1}, {37, 70, 5, 7}, {601, 4, 16, 4}}) {
    std::vector<int64_t> chosen(static_cast<size_t>(tokens * 4), experts - 1);
    for (auto [i, number] : llvm::enumerate(randomNumbers(2 * tokens, 0, static_cast<double>(experts + 1), 7))) {
      const auto expert = static_cast<int64_t>(number) - 1;
      chosen[i] = expert == 1 ? 0 : expert;
    }
    cases.push_back(groupRows(tokens, experts, block, parts, std::move(chosen)));
  }
  return cases;
}

std::vector<OperationCase> makeFurtherDecomposableCases() {
  std::vector<OperationCase> cases = {
      {"moe.routed_dot %0, %1, %2, %3 : (tensor<2x3x5xf64>, tensor<3x2x2x5xf64>, tensor<2x3x2xi32>, "
       "tensor<2x3x2xi32>) -> tensor<2x3x2xf64>",
       {anything, anything, expertIndex, slotIndex}},
      // Two groups: one with absent choices and an expert without any, one where all choose the same.
      {"moe.group_rows %0 {experts = 3 : i64, block = 2 : i64} : (tensor<2x3x2xi32>) -> (tensor<2x3x2xi32>, "
       "tensor<1x2x8xi32>, tensor<2x4xi32>)",
       {ints({2, 0, -1, 2, 2, -1, 1, 1, 1, 1, 1, 1})}},
      // Two parts of two experts each, in groups as above.
      {"moe.group_rows %0 {experts = 4 : i64, block = 2 : i64, parts = 2 : i64} : (tensor<2x3x2xi32>) -> "
       "(tensor<2x3x2xi32>, tensor<1x2x16xi32>, tensor<2x8xi32>)",
       {ints({3, 0, -1, 3, 3, 1, 2, 2, 2, 2, 2, 2})}},
      // A group of one rank; CollectivesTest has larger ones.
      {"moe.own_slots %0, %1, %2 {axis = \"expert\", dim = 0 : i64} : (tensor<2x3x2xi32>, tensor<2x3x2xi32>, "
       "tensor<3x2x2xi32>) -> (tensor<2x3x2xi32>, tensor<2x3x2xi32>, tensor<3x2x2xi32>)",
       {expertIndex, slotIndex, tokenIndex}},
      // Blocks that do not divide the choices, more experts than choices.
      {"moe.group_rows %0 {experts = 9 : i64, block = 3 : i64} : (tensor<1x4x2xi32>) -> (tensor<1x4x2xi32>, "
       "tensor<1x1x24xi32>, tensor<1x8xi32>)",
       {ints({8, 0, 0, 7, 8, 3, 3, 3})}}};
  for (OperationCase &table : longTables())
    cases.push_back(std::move(table));
  // Running sums in chunks: one more than two levels hold, and lengths that chunks do and do not divide.
  for (const char *flags : {"", ", exclusive", ", reverse", ", exclusive, reverse"})
    for (const char *type : {"tensor<2x1031x2xf64>", "tensor<1x80x3xf64>"})
      cases.push_back({std::string("moe.cumsum %0 {dim = 1 : i64") + flags + "} : (" + type + ") -> " + type});
  return cases;
}

} // namespace

const std::vector<OperationCase> &differentiableCases() {
  static const std::vector<OperationCase> cases = makeDifferentiableCases();
  return cases;
}

const std::vector<OperationCase> &furtherDecomposableCases() {
  static const std::vector<OperationCase> cases = makeFurtherDecomposableCases();
  return cases;
}

std::vector<ir::HostTensor> inputsOf(const OperationCase &example, ModuleOp module) {
  std::vector<ir::HostTensor> inputs;
  for (Type argument : module.lookupSymbol<func::FuncOp>("f").getArgumentTypes()) {
    size_t index = inputs.size();
    CaseInput input = index < example.inputs.size() ? example.inputs[index] : anything;
    ir::HostTensor value(cast<RankedTensorType>(argument));
    if (value.isFloat)
      value.floats = randomNumbers(value.size(), input.low, input.high, 1 + index);
    else
      value.ints = input.ints;
    inputs.push_back(std::move(value));
  }
  return inputs;
}

} // namespace moe::test
