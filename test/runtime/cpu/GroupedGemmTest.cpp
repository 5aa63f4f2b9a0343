//===- GroupedGemmTest.cpp ----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/GroupedGemm.h"

#include "runtime/cpu/CpuFeatures.h"

#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace moe;
using namespace moe::cpu;

namespace {

plan::GroupedGemm shape(int64_t blocks, int64_t blockRows, int64_t experts, int64_t left, int64_t right) {
  plan::GroupedGemm gemm;
  gemm.set_blocks(blocks);
  gemm.set_block_rows(blockRows);
  gemm.set_experts(experts);
  gemm.set_left(left);
  gemm.set_right(right);
  return gemm;
}

float fromBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

/// Normal numbers that both types hold.
std::vector<float> numbers(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float &value : values)
    value = fromBf16(static_cast<uint16_t>(std::bit_cast<uint32_t>(normal(random)) >> 16));
  return values;
}

struct Operands {
  std::vector<float> left, right, weights;
  std::vector<int32_t> blockExpert;
};

Operands randomOperands(const plan::GroupedGemm &g, std::vector<int32_t> blockExpert) {
  int64_t rows = g.blocks() * g.block_rows();
  return {numbers(rows * g.left(), 1), numbers(rows * g.right(), 2), numbers(g.experts() * g.left() * g.right(), 3),
          std::move(blockExpert)};
}

/// The formulas of plan.proto in float64.
std::vector<double> oracle(const plan::GroupedGemm &g, const Operands &in) {
  int64_t left = g.left(), right = g.right();
  std::vector<double> result(
      static_cast<size_t>(g.weight_grad() ? g.experts() * left * right : g.blocks() * g.block_rows() * right));
  for (int64_t r = 0; r < g.blocks() * g.block_rows(); ++r) {
    int64_t e = in.blockExpert[r / g.block_rows()];
    for (int64_t i = 0; e >= 0 && i < left; ++i)
      for (int64_t j = 0; j < right; ++j) {
        if (g.weight_grad())
          result[(e * left + i) * right + j] += double(in.left[r * left + i]) * double(in.right[r * right + j]);
        else
          result[r * right + j] +=
              double(in.left[r * left + i]) *
              double(in.weights[e * left * right + (g.transposed() ? j * left + i : i * right + j)]);
      }
  }
  return result;
}

/// Memory of one type with a fence behind it.
class Memory {
public:
  Memory(plan::DType dtype, const std::vector<float> &values) : dtype(dtype), count(values.size()) {
    bytes.assign(count * size() + 64, std::byte{0xff});
    for (size_t i = 0; i < count; ++i) {
      auto bits = std::bit_cast<uint32_t>(values[i]);
      uint32_t stored = dtype == plan::BF16 ? bits >> 16 : bits;
      std::memcpy(bytes.data() + i * size(), &stored, size());
    }
  }
  static Memory garbage(plan::DType dtype, size_t count) { return {dtype, std::vector<float>(count, NAN)}; }

  void *at(size_t element = 0) { return bytes.data() + element * size(); }
  std::vector<float> values() const {
    EXPECT_EQ(bytes.back(), std::byte{0xff});
    std::vector<float> result(count);
    for (size_t i = 0; i < count; ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, bytes.data() + i * size(), size());
      result[i] = std::bit_cast<float>(dtype == plan::BF16 ? bits << 16 : bits);
    }
    return result;
  }

private:
  size_t size() const { return dtype == plan::BF16 ? 2 : 4; }
  plan::DType dtype;
  size_t count;
  std::vector<std::byte> bytes;
};

std::vector<float> compute(const plan::GroupedGemm &g, Operands in, plan::DType dtype, int threads) {
  Memory left(dtype, in.left), right(dtype, in.right), weights(dtype, in.weights);
  size_t results = oracle(g, in).size();
  Memory result = Memory::garbage(dtype, results);
  std::vector<unsigned char> scratch(groupedGemmScratchBytes(g, dtype, threads) + 128, 0xff);
  GroupedGemmPointers pointers;
  pointers.left = left.at();
  pointers.right = right.at();
  pointers.blockExpert = in.blockExpert.data();
  pointers.result = result.at();
  pointers.scratch = reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
  Memory &tables = g.weight_grad() ? result : weights;
  for (int64_t e = 0; e < (g.separate() ? g.experts() : 1); ++e)
    pointers.weights.push_back(tables.at(static_cast<size_t>(e * g.left() * g.right())));
  auto gemm = GroupedGemm::create(g, dtype, ThreadPool(threads), pointers);
  if (!gemm) {
    ADD_FAILURE() << gemm.error().str();
    return {};
  }
  ThreadCount count(threads);
  EXPECT_TRUE(gemm->run());
  EXPECT_EQ(scratch.back(), 0xff);
  return result.values();
}

/// Rounding of float32 sums of up to 200 terms is far below 1e-4, and a wrong term far above; bf16 rounds the result.
void check(const plan::GroupedGemm &g, std::vector<int32_t> blockExpert, plan::DType dtype = plan::F32,
           int threads = 2) {
  Operands in = randomOperands(g, std::move(blockExpert));
  std::vector<double> expected = oracle(g, in);
  std::vector<float> actual = compute(g, in, dtype, threads);
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], 1e-4 + (dtype == plan::BF16 ? std::fabs(expected[i]) / 256 : 0))
        << "element " << i << " of " << g.ShortDebugString();
}

/// Runs of 1 to 7 blocks, an expert in two places, one without rows, blocks of nobody between and behind.
const std::vector<int32_t> kRagged = {0, 0, 0, -1, 3, 1, 1, 1, 1, 1, 1, 1, 0, -1, -1};

void checkForms(plan::DType dtype) {
  for (int form = 0; form < 8; ++form) {
    plan::GroupedGemm g = shape(15, form & 1 ? 5 : 8, 4, 17, 9);
    g.set_separate(form & 2);
    g.set_transposed(form & 4);
    check(g, kRagged, dtype);
    if (form < 4) {
      g.set_weight_grad(true);
      check(g, kRagged, dtype);
    }
  }
}

TEST(GroupedGemm, RaggedRuns) {
  checkForms(plan::F32);
}

TEST(GroupedGemm, RaggedRunsInBf16) {
  if (cpuSupports("avx512bw") != Support::Yes)
    GTEST_SKIP() << "oneDNN has bf16 products from AVX-512 on";
  checkForms(plan::BF16);
}

TEST(GroupedGemm, OneExpertHasAllOrNobodyAny) {
  for (int32_t expert : {2, -1})
    for (bool grad : {false, true}) {
      plan::GroupedGemm g = shape(6, 4, 3, 7, 33);
      g.set_weight_grad(grad);
      check(g, std::vector<int32_t>(6, expert), plan::F32, 1);
    }
}

TEST(GroupedGemm, ThreadsDoNotChangeTheNumberOfTerms) {
  for (int threads : {1, 2, 4})
    check(shape(15, 16, 4, 64, 40), kRagged, plan::F32, threads);
}

TEST(GroupedGemm, RefusesAnExpertBeyondTheLast) {
  plan::GroupedGemm g = shape(2, 2, 3, 4, 4);
  Operands in = randomOperands(g, {0, 3});
  std::vector<float> result(16);
  std::vector<unsigned char> scratch(groupedGemmScratchBytes(g, plan::F32, 1) + 64);
  GroupedGemmPointers pointers;
  pointers.left = in.left.data();
  pointers.blockExpert = in.blockExpert.data();
  pointers.weights = {in.weights.data()};
  pointers.result = result.data();
  pointers.scratch = scratch.data();
  auto gemm = GroupedGemm::create(g, plan::F32, ThreadPool(1), pointers);
  ASSERT_TRUE(gemm) << gemm.error().str();
  Status status = gemm->run();
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().str().find("expert 3 of 3"), std::string::npos) << status.error().str();
}

} // namespace
