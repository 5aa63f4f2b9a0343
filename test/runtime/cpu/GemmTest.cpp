//===- GemmTest.cpp - Matrix products against float64 loops -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Gemm.h"
#include "runtime/cpu/ThreadPool.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <vector>

using namespace moe;
using namespace moe::cpu;

namespace {

/// Row strides exceed the rows, and batch strides the matrices, by `gap` elements.
plan::Gemm product(int64_t batch, int64_t m, int64_t n, int64_t k, bool ta, bool tb, int64_t gap = 0) {
  plan::Gemm gemm;
  gemm.set_batch(batch);
  gemm.set_m(m);
  gemm.set_n(n);
  gemm.set_k(k);
  gemm.set_transpose_a(ta);
  gemm.set_transpose_b(tb);
  gemm.set_lda((ta ? m : k) + gap);
  gemm.set_ldb((tb ? k : n) + gap);
  gemm.set_ldc(n + gap);
  gemm.set_stride_a((ta ? k : m) * gemm.lda() + gap);
  gemm.set_stride_b((tb ? n : k) * gemm.ldb() + gap);
  gemm.set_stride_c(m * gemm.ldc() + gap);
  gemm.set_alpha(1);
  return gemm;
}

struct Matrices {
  std::vector<float> a, b, c, bias;

  explicit Matrices(const plan::Gemm &gemm, unsigned seed = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    auto fill = [&](std::vector<float> &values, int64_t count) {
      values.resize(count);
      for (float &value : values)
        value = normal(random);
    };
    fill(a, gemm.batch() * (gemm.stride_a() + gemm.m() * gemm.lda() + gemm.k() * gemm.lda()));
    fill(b, gemm.batch() * (gemm.stride_b() + gemm.n() * gemm.ldb() + gemm.k() * gemm.ldb()));
    fill(c, gemm.batch() * (gemm.stride_c() + gemm.m() * gemm.ldc()));
    fill(bias, gemm.n());
  }
};

double activate(double x, plan::Gemm::Activation activation) {
  switch (activation) {
  case plan::Gemm::RELU:
    return std::max(x, 0.0);
  case plan::Gemm::GELU_ERF:
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  case plan::Gemm::GELU_TANH:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  default:
    return x;
  }
}

/// The formula of plan.proto in float64. Elements of C between the rows keep their value.
std::vector<double> oracle(const plan::Gemm &g, const Matrices &in) {
  std::vector<double> c(in.c.begin(), in.c.end());
  for (int64_t batch = 0; batch < g.batch(); ++batch)
    for (int64_t i = 0; i < g.m(); ++i)
      for (int64_t j = 0; j < g.n(); ++j) {
        double sum = 0;
        for (int64_t p = 0; p < g.k(); ++p)
          sum += double(in.a[batch * g.stride_a() + (g.transpose_a() ? p * g.lda() + i : i * g.lda() + p)]) *
                 double(in.b[batch * g.stride_b() + (g.transpose_b() ? j * g.ldb() + p : p * g.ldb() + j)]);
        double &out = c[batch * g.stride_c() + i * g.ldc() + j];
        out = activate(g.alpha() * sum + g.beta() * out + (g.has_bias() ? in.bias[j] : 0), g.activation());
      }
  return c;
}

std::string print(const plan::Gemm &gemm) {
  return gemm.ShortDebugString();
}

/// Runs the product on `threads` threads; C afterwards.
std::vector<float> compute(const plan::Gemm &gemm, Matrices in, int threads) {
  auto primitive = GemmPrimitive::create(gemm, {}, threads);
  if (!primitive) {
    ADD_FAILURE() << primitive.error().str();
    return in.c;
  }
  EXPECT_EQ(primitive->scratchBytes(), gemmScratchBytes(gemm, plan::F32, threads)) << print(gemm);
  // Garbage before, as in an arena, and a fence behind.
  std::vector<unsigned char> scratch(primitive->scratchBytes() + 64 + 64, 0xff);
  void *aligned = scratch.data();
  size_t room = scratch.size();
  EXPECT_TRUE(std::align(64, primitive->scratchBytes(), aligned, room));
  Status bound = primitive->bind({in.a.data(), in.b.data(), in.c.data(), in.bias.data(), aligned});
  EXPECT_TRUE(bound);
  ThreadCount count(threads);
  EXPECT_TRUE(primitive->run());
  EXPECT_EQ(scratch.back(), 0xff);
  return in.c;
}

/// Error bound of a float32 dot product of k normal factors: rounding grows like sqrt(k) in practice, k in theory; with
/// the terms' size of about sqrt(k), 1e-6 * k + 4e-6 is above all rounding and far below any wrong term.
void check(const plan::Gemm &gemm, int threads = 2) {
  Matrices in(gemm);
  std::vector<double> expected = oracle(gemm, in);
  std::vector<float> actual = compute(gemm, in, threads);
  double tolerance = 1e-6 * static_cast<double>(gemm.k()) * std::max(1.0f, std::fabs(gemm.alpha())) + 4e-6;
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance) << "element " << i << " of " << print(gemm);
}

TEST(Gemm, OddSizesAndTransposes) {
  const int64_t sizes[][3] = {{1, 1, 1},   {1, 17, 3},   {17, 1, 5},   {3, 5, 1},     {7, 13, 31},
                              {33, 65, 9}, {64, 64, 64}, {255, 3, 17}, {1, 1031, 64}, {129, 67, 1031}};
  for (auto [m, n, k] : sizes)
    for (int transposes = 0; transposes < 4; ++transposes)
      for (int64_t batch : {1, 3})
        for (int64_t gap : {0, 3})
          check(product(batch, m, n, k, transposes & 1, transposes & 2, gap));
}

TEST(Gemm, BetaBiasAndActivations) {
  for (int options = 0; options < 4; ++options)
    for (int activation = 0; activation < 4; ++activation)
      for (float alpha : {1.0f, -0.125f})
        for (int64_t batch : {1, 2}) {
          plan::Gemm gemm = product(batch, 37, 21, 19, options & 1, activation & 1, 2);
          gemm.set_beta(options & 1 ? 1.0f : 0.0f);
          gemm.set_has_bias(options & 2);
          gemm.set_alpha(alpha);
          gemm.set_activation(static_cast<plan::Gemm::Activation>(activation));
          check(gemm);
        }
}

// Rows of B that share a set of the cache: B is packed first, each matrix of a batch or one for all.
TEST(Gemm, RowsThatShareACacheSet) {
  for (int options = 0; options < 8; ++options)
    for (int64_t batch : {1, 3}) {
      plan::Gemm gemm = product(batch, 256, 40, 64, options & 1, false);
      gemm.set_ldb(3072); // a part of the columns
      gemm.set_stride_b(options & 4 ? 0 : gemm.k() * gemm.ldb());
      gemm.set_beta(options & 2 ? 1.0f : 0.0f);
      gemm.set_has_bias(options & 2);
      gemm.set_alpha(options & 4 ? 0.5f : 1.0f);
      check(gemm);
      auto primitive = GemmPrimitive::create(gemm, {}, 2);
      ASSERT_TRUE(primitive);
      if (primitive->implementation().find("avx512") != std::string_view::npos)
        EXPECT_GE(primitive->scratchBytes(), static_cast<uint64_t>(gemm.k() * gemm.n()) * sizeof(float));
    }
}

// With beta = 0, C is written and not read: garbage must not survive as 0 * NaN.
TEST(Gemm, BetaZeroIgnoresNaN) {
  for (float alpha : {1.0f, 0.5f}) {
    plan::Gemm gemm = product(1, 19, 33, 70, false, true);
    gemm.set_alpha(alpha);
    Matrices in(gemm);
    std::vector<double> expected = oracle(gemm, in);
    std::ranges::fill(in.c, std::nanf(""));
    std::vector<float> actual = compute(gemm, in, 2);
    for (int64_t i = 0; i < gemm.m() * gemm.n(); ++i)
      ASSERT_NEAR(actual[i], expected[i], 1e-4);
  }
}

TEST(Gemm, OneMatrixForAWholeBatch) {
  for (bool transposed : {false, true}) {
    plan::Gemm gemm = product(4, 9, 20, 11, transposed, transposed);
    gemm.set_stride_b(0);
    check(gemm);
    gemm = product(4, 9, 20, 11, transposed, transposed);
    gemm.set_stride_a(0);
    check(gemm);
  }
}

// Heads of attention as a batch: q [T, H, D] times k [S, H, D] transposed, and the result interleaved likewise.
TEST(Gemm, InterleavedBatch) {
  plan::Gemm scores = product(3, 10, 12, 8, false, true);
  scores.set_lda(24);
  scores.set_stride_a(8);
  scores.set_ldb(24);
  scores.set_stride_b(8);
  check(scores);
  plan::Gemm values = product(3, 10, 8, 12, false, false);
  values.set_ldb(24);
  values.set_stride_b(8);
  values.set_ldc(24);
  values.set_stride_c(8);
  check(values);
}

TEST(Gemm, ManyThreadsAndLongSums) {
  check(product(1, 64, 48, 4099, true, false), 1);
  check(product(1, 64, 48, 4099, true, false), 4);
}

TEST(Gemm, SameBitsTwice) {
  plan::Gemm gemm = product(1, 192, 64, 4096, true, false);
  Matrices in(gemm);
  std::vector<float> first = compute(gemm, in, 2);
  for (int repeat = 0; repeat < 10; ++repeat) {
    std::vector<float> again = compute(gemm, in, 2);
    ASSERT_EQ(std::memcmp(first.data(), again.data(), first.size() * sizeof(float)), 0);
  }
}

// The slow reference implementation would pass every other test.
TEST(Gemm, ShapesOfTheModelsUseTheFastImplementation) {
  std::vector<plan::Gemm> gemms = {product(1, 4096, 192, 192, false, true), product(1, 192, 768, 4096, true, false),
                                   product(8, 1024, 768, 192, false, false), product(8, 768, 192, 1024, true, false)};
  plan::Gemm epilogue = product(8, 1024, 768, 192, false, true);
  epilogue.set_has_bias(true);
  epilogue.set_activation(plan::Gemm::GELU_ERF);
  gemms.push_back(epilogue);
  plan::Gemm accumulate = product(1, 192, 768, 4096, true, false);
  accumulate.set_beta(1);
  accumulate.set_alpha(0.5f);
  gemms.push_back(accumulate);
  plan::Gemm interleaved = product(16, 256, 256, 64, false, true);
  interleaved.set_lda(1024);
  interleaved.set_stride_a(64);
  interleaved.set_ldb(1024);
  interleaved.set_stride_b(64);
  gemms.push_back(interleaved);
  for (const plan::Gemm &gemm : gemms) {
    auto primitive = GemmPrimitive::create(gemm, {}, 2);
    ASSERT_TRUE(primitive);
    EXPECT_EQ(primitive->implementation().find("ref"), std::string_view::npos)
        << primitive->implementation() << " for " << print(gemm);
  }
}

// In a process of its own, since the library reads its limit once.
TEST(GemmDeathTest, StaysWithinTheInstructionsOfTheTarget) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto limited = [] {
    plan::Gemm gemm = product(1, 64, 64, 64, false, false);
    bool ok = bool(limitGemmIsa({})) && bool(limitGemmIsa({"sse2", "avx", "avx2", "fma"}));
    auto primitive = GemmPrimitive::create(gemm, {}, 1);
    ok = ok && primitive && primitive->implementation().find("avx512") == std::string_view::npos;
    ok = ok && bool(limitGemmIsa({"avx2", "fma"})) && !limitGemmIsa({"sse2"});
    std::_Exit(ok ? 0 : 1);
  };
  EXPECT_EXIT(limited(), testing::ExitedWithCode(0), "");
}

TEST(Gemm, Bfloat16InFloat32Out) {
  plan::Gemm gemm = product(1, 33, 48, 100, false, true);
  GemmTypes types = {plan::BF16, plan::BF16, plan::F32, plan::F32};
  auto primitive = GemmPrimitive::create(gemm, types, 2);
  if (!primitive)
    GTEST_SKIP() << "this CPU has no bfloat16 products";
  Matrices in(gemm);
  auto truncate = [](std::vector<float> &values) {
    std::vector<uint16_t> bits;
    for (float &value : values) {
      uint32_t word = std::bit_cast<uint32_t>(value) & 0xffff0000u;
      value = std::bit_cast<float>(word);
      bits.push_back(static_cast<uint16_t>(word >> 16));
    }
    return bits;
  };
  std::vector<uint16_t> a = truncate(in.a), b = truncate(in.b);
  std::vector<double> expected = oracle(gemm, in);
  std::vector<unsigned char> scratch(primitive->scratchBytes() + 64);
  ASSERT_TRUE(primitive->bind({a.data(), b.data(), in.c.data(), nullptr, scratch.data()}));
  ThreadCount count(2);
  ASSERT_TRUE(primitive->run());
  for (int64_t i = 0; i < gemm.m() * gemm.n(); ++i)
    ASSERT_NEAR(in.c[i], expected[i], 1e-4); // products of bfloat16 are exact in float32, sums round
}

TEST(Gemm, UnsupportedTypesAreAnError) {
  plan::Gemm gemm = product(1, 8, 8, 8, false, false);
  auto primitive = GemmPrimitive::create(gemm, {plan::F16, plan::F16, plan::F16, plan::F16}, 1);
  ASSERT_FALSE(primitive);
  EXPECT_NE(primitive.error().str().find("8 x 8 x 8"), std::string::npos);
  EXPECT_EQ(gemmScratchBytes(gemm, plan::F16, 1), 0u);
}

} // namespace
