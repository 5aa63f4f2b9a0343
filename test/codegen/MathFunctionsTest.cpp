//===- MathFunctionsTest.cpp - Polynomials against the C library in double ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "KernelRunner.h"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;
using namespace moe::codegen;
using namespace moe::codegen::test;

namespace {

struct Function {
  const char *name;
  double (*exact)(double);
  double low, high;
};

std::string unaryRegion(StringRef op, int64_t size) {
  std::string type = "tensor<" + std::to_string(size) + "xf32>";
  return ("func.func @f(%x: " + type + ") -> " + type + " { %y = moe.fused \"loop\"(%x) : (" + type + ") -> " + type +
          " { ^bb0(%a: " + type + "): %r = moe." + op + " %a : (" + type + ") -> " + type + " moe.yield %r : " + type +
          " } return %y : " + type + " }")
      .str();
}

/// Inputs over [low, high]: half evenly spaced, half spread over exponents; plus the special values.
HostTensor samples(double low, double high, int64_t count) {
  HostTensor x;
  x.shape = {count};
  std::mt19937_64 random(11);
  const double special[] = {0.0,  -0.0,     INFINITY, -INFINITY, NAN,         1.0,
                            -1.0, 0x1p-126, 0x1p-149, -0x1p-149, 3.4028235e38};
  for (int64_t i = 0; i < count; ++i) {
    double v;
    if (i < static_cast<int64_t>(std::size(special)))
      v = special[i];
    else if (i % 2)
      v = low + (high - low) * static_cast<double>(i) / static_cast<double>(count);
    else
      v = std::ldexp(1.0 + static_cast<double>(random() % 4096) / 4096, -40 + static_cast<int>(random() % 46)) *
          (low < 0 && random() % 2 ? -1 : 1);
    x.floats.push_back(static_cast<float>(v));
  }
  return x;
}

// Each coefficient, range reduction and special case of MathExpansion.cpp: 5e-7 relative is 4 units in the last place.
TEST(MathFunctions, AreAccurate) {
  const Function functions[] = {{"exp", std::exp, -104, 89}, {"log", std::log, 0, 1e6},    {"tanh", std::tanh, -12, 12},
                                {"erf", std::erf, -5, 5},    {"sin", std::sin, -1e4, 1e4}, {"cos", std::cos, -1e4, 1e4},
                                {"sqrt", std::sqrt, 0, 1e6}};
  constexpr int64_t count = 100003;
  std::unique_ptr<MLIRContext> context = makeContext();
  std::mt19937_64 random;
  for (const char *target : {"cpu:native", "cpu:x86-64-v3"}) {
    KernelRunner runner(*context, target);
    std::vector<Case> cases;
    for (const Function &f : functions) {
      cases.push_back(parseCase(*context, unaryRegion(f.name, count), random));
      ASSERT_TRUE(cases.back().op);
      cases.back().inputs = {samples(f.low, f.high, count)};
      ASSERT_GE(runner.add(cases.back().op), 0);
    }
    ASSERT_TRUE(runner.load());
    for (auto [number, f] : llvm::enumerate(functions)) {
      const HostTensor &x = cases[number].inputs[0];
      auto bytes = runner.run(static_cast<int>(number), cases[number].inputs, {});
      HostTensor y = fromBytes(bytes[0].data(), typeOf(cases[number].op.getOutputs()[0]));
      double worst = 0;
      for (int64_t i = 0; i < count; ++i) {
        double exact = f.exact(x.floats[i]);
        // sin and cos reduce by a 106-bit pi / 2: beyond 1e7 the remainder loses digits.
        if (f.low == -1e4 && std::isfinite(x.floats[i]) && std::abs(x.floats[i]) > 1e7)
          continue;
        auto rounded = static_cast<float>(exact);
        if (std::isnan(exact)) {
          EXPECT_TRUE(std::isnan(y.floats[i])) << f.name << "(" << x.floats[i] << ") = " << y.floats[i];
          continue;
        }
        if (std::isinf(rounded) || exact == 0) {
          EXPECT_EQ(y.floats[i], rounded) << f.name << "(" << x.floats[i] << ")";
          continue;
        }
        // Near zeros of sin and cos, and among subnormals, half a unit of the smallest normal scale is what counts.
        double floor = std::string(f.name) == "sin" || std::string(f.name) == "cos"
                           ? std::min(1e-3, std::abs(x.floats[i]))
                           : 0x1p-126;
        double error = std::abs(y.floats[i] - exact) / std::max(std::abs(exact), floor);
        EXPECT_LE(error, 5e-7) << f.name << "(" << x.floats[i] << ") = " << y.floats[i] << ", not " << exact;
        worst = std::max(worst, error);
      }
      RecordProperty(std::string(target) + "." + f.name, std::to_string(worst));
      printf("  %-10s %-5s worst relative error %.2g\n", target, f.name, worst);
    }
  }
}

TEST(MathFunctions, Pow) {
  constexpr int64_t count = 60000;
  std::unique_ptr<MLIRContext> context = makeContext();
  std::mt19937_64 random(3);
  KernelRunner runner(*context, "cpu:native");
  Case c = parseCase(*context, R"(
    func.func @f(%x: tensor<60000xf32>, %y: tensor<60000xf32>) -> tensor<60000xf32> {
      %r = moe.fused "loop"(%x, %y) : (tensor<60000xf32>, tensor<60000xf32>) -> tensor<60000xf32> {
      ^bb0(%a: tensor<60000xf32>, %b: tensor<60000xf32>):
        %p = moe.pow %a, %b : (tensor<60000xf32>, tensor<60000xf32>) -> tensor<60000xf32>
        moe.yield %p : tensor<60000xf32>
      }
      return %r : tensor<60000xf32>
    })",
                     random);
  ASSERT_TRUE(c.op);
  const double special[] = {0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, -3.0, INFINITY, NAN};
  for (int64_t i = 0; i < count; ++i) {
    double x = std::exp(c.inputs[0].floats[i] * 3), y = c.inputs[1].floats[i] * 8;
    if (i < 100) {
      x = special[i / 10];
      y = special[i % 10];
    } else if (i % 5 == 0) {
      // beta^t of Adam's bias correction.
      x = 0.9 + 0.0999 * static_cast<double>(i) / count;
      y = static_cast<double>(i % 3000);
    }
    c.inputs[0].floats[i] = static_cast<float>(x);
    c.inputs[1].floats[i] = static_cast<float>(y);
  }
  ASSERT_GE(runner.add(c.op), 0);
  ASSERT_TRUE(runner.load());
  HostTensor r = fromBytes(runner.run(0, c.inputs, {})[0].data(), typeOf(c.op.getOutputs()[0]));
  for (int64_t i = 0; i < count; ++i) {
    double x = c.inputs[0].floats[i], y = c.inputs[1].floats[i], exact = std::pow(x, y);
    // The limit cases of infinite exponents follow the logarithm here, not the C library.
    if (std::isinf(y) && std::abs(x) == 1)
      continue;
    auto rounded = static_cast<float>(exact);
    if (std::isnan(exact))
      EXPECT_TRUE(std::isnan(r.floats[i])) << x << "^" << y << " = " << r.floats[i];
    else if (std::isinf(rounded) || rounded == 0)
      EXPECT_EQ(r.floats[i], rounded) << x << "^" << y;
    else
      EXPECT_LE(std::abs(r.floats[i] - exact), 2e-7 * std::abs(exact) + 0x1p-149) << x << "^" << y;
  }
}

} // namespace
