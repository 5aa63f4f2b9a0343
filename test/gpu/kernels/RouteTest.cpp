//===- RouteTest.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Against the CPU kernels, which are tested against dense formulas and fairseq's numbers.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/Route.h"

#include "runtime/cuda/Scratch.h"
#include "test/gpu/kernels/Simulate.h"
#include "test/runtime/cpu_kernels/RouteReference.h"

#include <cmath>
#include <cstring>
#include <random>

using namespace moe;
using namespace moe::cpu;
using namespace moe::test;

namespace {

struct Case {
  RouteShape shape;
  RouteInputs inputs;
  std::vector<float> dweight, daux;
};

/// Logits of `shape`: some equal, so that there are ties; the first experts are popular.
Case caseOf(const RouteShape &shape, bool masked, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::uniform_real_distribution<float> uniform(0.0005f, 0.9995f);
  Case c;
  c.shape = shape;
  const int64_t rows = shape.groups * shape.tokens, E = shape.experts;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t e = 0; e < E; ++e)
      c.inputs.logits.push_back(row % 5 == 4 ? float(generator() % 3) : normal(generator) - 6.0f * float(e) / float(E));
  if (masked)
    for (int64_t row = 0; row < rows; ++row)
      c.inputs.mask.push_back(generator() % 4 == 0);
  if (shape.policy == RoutePolicy::Sampling)
    for (int64_t i = 0; i < rows * E; ++i)
      c.inputs.noise.push_back(-std::log(-std::log(uniform(generator))));
  if (shape.policy == RoutePolicy::Random)
    for (int64_t i = 0; i < rows; ++i)
      c.inputs.noise.push_back(uniform(generator));
  for (int64_t i = 0; i < rows * shape.topK; ++i)
    c.dweight.push_back(normal(generator));
  for (int64_t i = 0; i < shape.groups; ++i)
    c.daux.push_back(normal(generator));
  return c;
}

Case randomCase(uint64_t seed) {
  std::mt19937_64 generator(~seed);
  auto pick = [&](auto... values) {
    const int64_t list[] = {int64_t(values)...};
    return list[generator() % std::size(list)];
  };
  RouteShape s;
  s.groups = pick(1, 2, 3);
  s.tokens = pick(1, 3, 17, 64, 65, 255);
  s.experts = pick(1, 2, 3, 5, 8, 16, 33, 64);
  s.topK = pick(1, 2, 2);
  s.capacity = std::max<int64_t>(1, s.tokens * s.topK * pick(1, 2, 3, 8) / (2 * s.experts));
  s.policy = s.topK == 1 ? RoutePolicy::All : RoutePolicy(pick(0, 1, 2));
  s.normalizeBeforeDropping = pick(0, 1) != 0;
  s.batchPrioritized = pick(0, 1) != 0;
  return caseOf(s, pick(0, 1, 2) == 0, seed);
}

plan::Route stepOf(const RouteShape &shape) {
  plan::Route step;
  step.set_groups(shape.groups);
  step.set_tokens(shape.tokens);
  step.set_experts(shape.experts);
  step.set_batch_prioritized(shape.batchPrioritized);
  return step;
}

/// Bits of everything, so that results with NaN can be compared.
struct DeviceResults : RouteResults {
  bool operator==(const DeviceResults &other) const {
    auto same = [](const std::vector<float> &a, const std::vector<float> &b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return expert == other.expert && slot == other.slot && token == other.token && same(weight, other.weight) &&
           same(aux, other.aux) && same(probs, other.probs) && same(firstFraction, other.firstFraction) &&
           same(metrics, other.metrics) && same(dlogits, other.dlogits);
  }
};

DeviceResults onDevice(const Case &c) {
  const RouteShape &shape = c.shape;
  return simulate([&] {
    const int64_t rows = shape.groups * shape.tokens;
    const size_t choices = size_t(rows * shape.topK), cells = size_t(rows * shape.experts), G = size_t(shape.groups);
    DeviceResults r;
    r.expert = r.slot = unwritten<int32_t>(choices);
    r.token = unwritten<int32_t>(size_t(shape.experts * shape.groups * shape.capacity));
    r.weight = unwritten<float>(choices);
    r.aux = unwritten<float>(G);
    r.probs = r.dlogits = unwritten<float>(cells);
    r.firstFraction = unwritten<float>(G * size_t(shape.experts));
    r.metrics = unwritten<float>(G * RouteMetrics);
    auto scratch = unwritten<unsigned char>(cuda::routeScratchBytes(stepOf(shape)));
    const int before = launches();
    EXPECT_EQ(cuda::routeForward(shape,
                                 {.logits = c.inputs.logits.data(),
                                  .mask = c.inputs.mask.empty() ? nullptr : c.inputs.mask.data(),
                                  .noise = c.inputs.noise.empty() ? nullptr : c.inputs.noise.data(),
                                  .expert = r.expert.data(),
                                  .slot = r.slot.data(),
                                  .weight = r.weight.data(),
                                  .token = r.token.data(),
                                  .aux = r.aux.data(),
                                  .probs = r.probs.data(),
                                  .firstFraction = r.firstFraction.data(),
                                  .metrics = r.metrics.data(),
                                  .scratch = scratch.data()},
                                 nullptr),
              cudaSuccess);
    EXPECT_LE(launches() - before, 3);
    EXPECT_EQ(cuda::routeBackward(shape,
                                  {.dweight = c.dweight.data(),
                                   .daux = c.daux.data(),
                                   .probs = r.probs.data(),
                                   .expert = r.expert.data(),
                                   .slot = r.slot.data(),
                                   .firstFraction = r.firstFraction.data(),
                                   .dlogits = r.dlogits.data()},
                                  nullptr),
              cudaSuccess);
    wait();
    return r;
  });
}

void expectNear(const std::vector<float> &actual, const std::vector<float> &expected, const char *what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i]))
      ASSERT_TRUE(std::isnan(actual[i])) << what << " " << i;
    else
      ASSERT_NEAR(actual[i], expected[i], 1e-6f * std::max(1.0f, std::abs(expected[i]))) << what << " " << i;
  }
}

/// Every result; returns the number of dropped first choices.
int compare(const Case &c) {
  const DeviceResults device = onDevice(c);
  const RouteResults cpu = runRoute(c.shape, c.inputs, c.dweight, c.daux, 1000000);
  EXPECT_EQ(device.expert, cpu.expert);
  EXPECT_EQ(device.slot, cpu.slot);
  EXPECT_EQ(device.token, cpu.token);
  EXPECT_EQ(std::memcmp(device.probs.data(), cpu.probs.data(), cpu.probs.size() * sizeof(float)), 0);
  expectNear(device.weight, cpu.weight, "weight");
  expectNear(device.aux, cpu.aux, "aux");
  expectNear(device.firstFraction, cpu.firstFraction, "first fraction");
  expectNear(device.metrics, cpu.metrics, "metric");
  expectNear(device.dlogits, cpu.dlogits, "gradient");
  int dropped = 0;
  for (size_t i = 0; i < cpu.slot.size(); i += size_t(c.shape.topK))
    dropped += cpu.slot[i] < 0;
  return dropped;
}

TEST(CudaRoute, EqualsTheCpu) {
  int dropped = 0;
  for (uint64_t seed = 0; seed < 150 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    dropped += compare(randomCase(seed));
  }
  EXPECT_GT(dropped, 500); // the cases do drop
}

// More rows than a block has threads, so that warps walk several times 32 rows; more experts than counters allow for
// all warps, as many as there may be.
TEST(CudaRoute, ManyRowsAndExperts) {
  for (bool prioritized : {false, true}) {
    RouteShape shape{.groups = 2, .tokens = 2100, .experts = 8, .capacity = 300, .batchPrioritized = prioritized};
    EXPECT_GT(compare(caseOf(shape, true, 1)), 100);
    shape = {.groups = 1, .tokens = 100, .experts = 1024, .capacity = 1, .batchPrioritized = prioritized};
    EXPECT_GT(compare(caseOf(shape, false, 2)), 0);
    shape = {.groups = 1, .tokens = 300, .experts = 200, .capacity = 2, .topK = 1, .batchPrioritized = prioritized};
    EXPECT_GT(compare(caseOf(shape, true, 3)), 0);
  }
}

TEST(CudaRoute, RefusesMoreExpertsThanFit) {
  const RouteShape shape{.groups = 1, .tokens = 1, .experts = cuda::maximumExperts + 1, .capacity = 1};
  EXPECT_EQ(cuda::routeForward(shape, {}, nullptr), cudaErrorInvalidValue);
}

TEST(CudaRoute, OnlyPadding) {
  Case c = caseOf({.groups = 2, .tokens = 40, .experts = 4, .capacity = 3}, true, 5);
  std::ranges::fill(c.inputs.mask, uint8_t{1});
  EXPECT_EQ(compare(c), 80);
}

// Numbers that are not numbers neither leave the arrays nor vanish.
TEST(CudaRoute, NaNSurvives) {
  for (bool prioritized : {false, true}) {
    Case c =
        caseOf({.groups = 1, .tokens = 70, .experts = 4, .capacity = 70, .batchPrioritized = prioritized}, false, 6);
    std::fill_n(c.inputs.logits.begin() + 40, 80, std::numeric_limits<float>::quiet_NaN());
    const DeviceResults r = onDevice(c);
    for (size_t row = 0; row < 70; ++row)
      EXPECT_EQ(std::isnan(r.weight[row * 2]), row >= 10 && row < 30);
    EXPECT_TRUE(std::isnan(r.aux[0]));
  }
}

} // namespace
