//===- GemmTest.cpp - Products against sums in float64 ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Scratch.h"
#include "test/gpu/backend/Rig.h"
#include "test/runtime/TestFiles.h"

#include <bit>
#include <cmath>
#include <random>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

struct Case {
  bool transposeA = false, transposeB = false;
  int64_t batch = 1, m = 5, n = 7, k = 9;
  int64_t padding = 0; ///< of the rows of A, B and C
  float alpha = 1, beta = 0;
  bool bias = false;
  plan::Gemm::Activation activation = plan::Gemm::NONE;
  plan::DType inputs = plan::F32, output = plan::F32;
};

double activate(plan::Gemm::Activation activation, double x) {
  if (activation == plan::Gemm::RELU)
    return x > 0 ? x : 0;
  if (activation == plan::Gemm::GELU_TANH)
    return x / 2 * (1 + std::tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)));
  return x;
}

/// One matrix or a batch of them: numbers that bf16 holds exactly.
struct Matrix {
  plan::Slice slice;
  plan::DType type = plan::F32;
  int64_t rows = 0, columns = 0, ld = 0, batch = 1;
  std::vector<float> values;

  int64_t stride() const { return rows * ld; }
  float &at(int64_t b, int64_t i, int64_t j) { return values[b * stride() + i * ld + j]; }

  void load(Rig &rig) {
    if (type == plan::F32)
      return rig.put(slice, values);
    std::vector<uint16_t> narrow;
    narrow.reserve(values.size());
    for (float value : values)
      narrow.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
    rig.put(slice, narrow);
  }
  std::vector<float> result(Rig &rig) const {
    if (type == plan::F32)
      return rig.get<float>(slice);
    std::vector<float> wide;
    for (uint16_t bits : rig.get<uint16_t>(slice))
      wide.push_back(std::bit_cast<float>(uint32_t{bits} << 16));
    return wide;
  }
};

struct Product {
  explicit Product(const Case &c) : c(c) {
    a = matrix(c.inputs, c.transposeA ? c.k : c.m, c.transposeA ? c.m : c.k, c.batch);
    b = matrix(c.inputs, c.transposeB ? c.n : c.k, c.transposeB ? c.k : c.n, c.batch);
    d = matrix(c.output, c.m, c.n, c.batch);
    bias = matrix(c.output, 1, c.n, 1);
    rig.builder.program("update");
    plan::Step &step = rig.builder.addStep("product");
    plan::Gemm &gemm = *step.mutable_gemm();
    gemm.set_batch(c.batch);
    gemm.set_m(c.m);
    gemm.set_n(c.n);
    gemm.set_k(c.k);
    gemm.set_transpose_a(c.transposeA);
    gemm.set_transpose_b(c.transposeB);
    gemm.set_lda(a.ld);
    gemm.set_ldb(b.ld);
    gemm.set_ldc(d.ld);
    gemm.set_stride_a(a.stride());
    gemm.set_stride_b(b.stride());
    gemm.set_stride_c(d.stride());
    gemm.set_alpha(c.alpha);
    gemm.set_beta(c.beta);
    gemm.set_has_bias(c.bias);
    gemm.set_activation(c.activation);
    gemm.set_scratch_bytes(cuda::gemmWorkspaceBytes(gemm));
    addOperand(step, a.slice, Operand::READ, c.inputs);
    addOperand(step, b.slice, Operand::READ, c.inputs);
    addOperand(step, d.slice, c.beta == 0 ? Operand::WRITE : Operand::READ_WRITE, c.output);
    if (c.bias)
      addOperand(step, bias.slice, Operand::READ, c.output);
    addOperand(step, rig.builder.step(gemm.scratch_bytes()), Operand::SCRATCH);
  }

  Matrix matrix(plan::DType type, int64_t rows, int64_t columns, int64_t batch) {
    Matrix result{{}, type, rows, columns, columns + c.padding, batch, {}};
    for (int64_t i = 0; i < batch * result.stride(); ++i)
      result.values.push_back(static_cast<float>(static_cast<int>(random() % 33) - 16) / 8);
    result.slice = rig.builder.state(result.values.size() * (type == plan::F32 ? 4 : 2));
    return result;
  }

  double expected(int64_t batch, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t p = 0; p < c.k; ++p)
      sum += double{c.transposeA ? a.at(batch, p, i) : a.at(batch, i, p)} *
             double{c.transposeB ? b.at(batch, j, p) : b.at(batch, p, j)};
    return activate(c.activation, c.alpha * sum + c.beta * d.at(batch, i, j) + (c.bias ? bias.at(0, 0, j) : 0));
  }

  void load() {
    a.load(rig);
    b.load(rig);
    d.load(rig);
    bias.load(rig);
  }

  Case c;
  std::mt19937 random{3};
  Rig rig;
  Matrix a, b, d, bias;
};

class Gemm : public testing::TestWithParam<Case> {};

// Numbers are multiples of 1/64 below 2^10, so that float32 sums are exact whatever their order.
TEST_P(Gemm, ComputesWhatThePlanSays) {
  Product product(GetParam());
  Status status = product.rig.open();
  ASSERT_TRUE(status) << status.error().str();
  product.load();
  status = product.rig.device->run(0);
  ASSERT_TRUE(status) << status.error().str();
  std::vector<float> result = product.d.result(product.rig);
  const double precision = product.c.output == plan::BF16 ? 0x1p-8 : 0x1p-22; // of one rounding, and of tanh
  for (int64_t batch = 0; batch < product.c.batch; ++batch)
    for (int64_t i = 0; i < product.c.m; ++i)
      for (int64_t j = 0; j < product.c.n; ++j) {
        double expected = product.expected(batch, i, j);
        ASSERT_NEAR(result[batch * product.d.stride() + i * product.d.ld + j], expected,
                    precision * (1 + std::abs(expected)))
            << batch << " " << i << " " << j;
      }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Gemm,
    testing::Values(Case{}, Case{.transposeA = true}, Case{.transposeB = true},
                    Case{.transposeA = true, .transposeB = true, .alpha = 0.5F},
                    Case{.batch = 3, .padding = 2, .beta = 1}, Case{.transposeA = true, .batch = 2, .beta = 1},
                    Case{.transposeB = true, .bias = true},
                    Case{.beta = 1, .bias = true, .activation = plan::Gemm::RELU}, Case{.activation = plan::Gemm::RELU},
                    Case{.bias = true, .activation = plan::Gemm::GELU_TANH},
                    Case{.transposeB = true, .inputs = plan::BF16, .output = plan::BF16},
                    Case{.transposeA = true, .beta = 1, .inputs = plan::BF16, .output = plan::F32},
                    Case{.m = 1, .n = 1, .k = 1}, Case{.m = 1, .n = 70, .k = 33}, Case{.m = 65, .n = 1, .k = 2}));

TEST(GemmTest, WhatTheLibraryDoesNotHaveIsRefused) {
  Product gelu({.activation = plan::Gemm::GELU_ERF});
  EXPECT_NE(gelu.rig.problem().find("GELU by erf"), std::string::npos);
  Product mixed({.inputs = plan::F32, .output = plan::BF16});
  EXPECT_NE(mixed.rig.problem().find("of these types"), std::string::npos);
}

/// Bits of a product whose sum depends on its order, with what the library would choose by itself.
std::vector<float> bitsWith(int algorithm, const std::filesystem::path &choices) {
  Product product({.m = 8, .n = 8, .k = 200});
  for (int64_t i = 0; i < 8; ++i) { // cancel before what comes next, or swallow what came before
    product.a.at(0, i, 0) = 0x1p60F;
    product.a.at(0, i, 1) = -0x1p60F;
    product.b.at(0, 0, i) = product.b.at(0, 1, i) = 1;
  }
  sim::settings().algorithm = algorithm;
  Status status = product.rig.open({.choices = choices});
  EXPECT_TRUE(status) << status.error().str();
  if (!status)
    return {};
  product.load();
  EXPECT_TRUE(product.rig.device->run(0));
  return product.d.result(product.rig);
}

// A rerun repeats the choice of the first run whatever the library would choose by then.
TEST(GemmTest, ChoicesAreRecordedAndRepeated) {
  TemporaryFolder folder;
  auto record = folder.path() / "run" / "algorithms.json";
  auto first = bitsWith(0, record);
  EXPECT_NE(first, bitsWith(1, {})); // else this test tests nothing
  EXPECT_EQ(first, bitsWith(1, record));
  std::string text = readFile(record);
  EXPECT_EQ(first, bitsWith(1, record));
  EXPECT_EQ(text, readFile(record));

  // Of another library: chosen anew.
  std::string other = text;
  other.replace(other.find("cuBLASLt 130000"), 15, "cuBLASLt 120000");
  folder.write("other.json", other);
  EXPECT_NE(first, bitsWith(1, folder.path() / "other.json"));

  for (const char *damaged : {"{", "[]", R"({"products": {"x": ["1"]}, "library": "cuBLASLt 130000",
                                              "device": "simulated device"})"}) {
    folder.write("damaged.json", damaged);
    Product product({});
    Status status = product.rig.open({.choices = folder.path() / "damaged.json"});
    ASSERT_FALSE(status) << damaged;
    EXPECT_NE(status.error().str().find("the record of chosen algorithms is damaged"), std::string::npos);
  }
}

} // namespace
