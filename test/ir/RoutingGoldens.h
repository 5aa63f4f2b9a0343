//===- RoutingGoldens.h - The gate on the golden logits ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_IR_ROUTINGGOLDENS_H
#define MOEC_TEST_IR_ROUTINGGOLDENS_H

#include "test/ir/TestSupport.h"
#include <gtest/gtest.h>

namespace moe::test {

/// Eight tokens, four experts.
inline std::vector<double> goldenLogits() {
  return {2.0,  1.0, -0.5, 0.0,   1.5,  0.25, 1.0,  -1.0, 0.75, -0.25, 0.5, 0.0, 3.0, -1.0, 0.0,  2.5,
          1.25, 1.0, 0.5,  -0.75, -0.5, 2.0,  1.75, 0.0,  2.25, -0.75, 0.0, 1.5, 0.5, -1.5, 0.25, -2.5};
}

/// What a golden case varies.
struct RouteSettings {
  int64_t choices = 2, capacity = 4;
  int policy = 0;
  bool normalizeBefore = false, prioritized = false;
  std::vector<int64_t> mask = {};
  std::vector<double> noise = {};
  std::vector<double> logits = goldenLogits();
  int64_t groups = 1;
};

/// Results of `moe.route` by their names.
struct RouteResults {
  ir::HostTensor expert, slot, weight, token, aux, probs, firstFraction, metrics;
};

/// Runs the gate in float64.
inline RouteResults route(const RouteSettings &settings) {
  std::string g = std::to_string(settings.groups), k = std::to_string(settings.choices);
  std::string c = std::to_string(settings.capacity);
  std::vector<ir::HostTensor> inputs = {ir::HostTensor({settings.groups, 8, 4}, settings.logits)};
  std::string operands = "%0", types = "tensor<" + g + "x8x4xf64>", segments = "1";
  auto append = [&](ir::HostTensor value, const std::string &type) {
    operands += ", %" + std::to_string(inputs.size());
    types += ", " + type;
    inputs.push_back(std::move(value));
  };
  segments += settings.mask.empty() ? ", 0" : ", 1";
  if (!settings.mask.empty())
    append(ir::HostTensor::ofInts({settings.groups, 8}, settings.mask), "tensor<" + g + "x8xi1>");
  segments += settings.noise.empty() ? ", 0" : ", 1";
  if (settings.policy == 1)
    append(ir::HostTensor({settings.groups, 8, 4}, settings.noise), "tensor<" + g + "x8x4xf64>");
  else if (settings.policy == 2)
    append(ir::HostTensor({settings.groups, 8}, settings.noise), "tensor<" + g + "x8xf64>");
  std::string text = "moe.route " + operands + " {top_k = " + k + " : i64, capacity = " + c +
                     " : i64, policy = " + std::to_string(settings.policy) + " : i32" +
                     (settings.normalizeBefore ? ", normalize_before_dropping" : "") +
                     (settings.prioritized ? ", batch_prioritized" : "") +
                     ", operandSegmentSizes = array<i32: " + segments + ">} : (" + types + ") -> (tensor<" + g + "x8x" +
                     k + "xi32>, tensor<" + g + "x8x" + k + "xi32>, tensor<" + g + "x8x" + k + "xf64>, tensor<4x" + g +
                     "x" + c + "xi32>, tensor<" + g + "xf64>, tensor<" + g + "x8x4xf64>, tensor<" + g +
                     "x4xf64>, tensor<" + g + "x9xf64>)";
  IrContext ir;
  std::vector<ir::HostTensor> r = evaluate(ir, text, inputs);
  EXPECT_EQ(r.size(), 8u) << text << "\n" << ir.messages();
  r.resize(8);
  return {r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]};
}

} // namespace moe::test

#endif // MOEC_TEST_IR_ROUTINGGOLDENS_H
