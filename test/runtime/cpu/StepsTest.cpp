//===- StepsTest.cpp - Each kind of work through a session --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The numbers of the library kernels have tests of their own: here operands could be handed over in the wrong order.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Gemm.h"
#include "runtime/cpu/kernels/Attention.h"
#include "runtime/cpu/kernels/Route.h"
#include "test/runtime/core/TestSession.h"

#include <cmath>
#include <random>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

std::mt19937 generator(17);

void randomize(std::span<float> values) {
  std::normal_distribution<float> normal;
  for (float &value : values)
    value = normal(generator);
}

std::vector<float> copyOf(std::span<float> values) {
  return {values.begin(), values.end()};
}

void expectNear(std::span<float> actual, const std::vector<double> &expected, double tolerance, const char *what) {
  ASSERT_GE(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance) << what << " " << i;
}

TEST(Steps, Gemm) {
  PlanBuilder builder;
  plan::Slice a = builder.state(33 * 65 * 4), b = builder.state(65 * 17 * 4), c = builder.state(33 * 17 * 4);
  plan::Slice bias = builder.state(17 * 4);
  builder.program("update");
  plan::Step &step = builder.addStep("product");
  plan::Gemm &gemm = *step.mutable_gemm();
  gemm.set_batch(1);
  gemm.set_m(33);
  gemm.set_n(17);
  gemm.set_k(65);
  gemm.set_transpose_a(true);
  gemm.set_lda(33);
  gemm.set_ldb(17);
  gemm.set_ldc(17);
  gemm.set_alpha(0.5f);
  gemm.set_beta(1);
  gemm.set_has_bias(true);
  uint64_t scratch = cpu::gemmScratchBytes(gemm, plan::F32, 2);
  gemm.set_scratch_bytes(scratch);
  addOperand(step, a, Operand::READ, plan::F32, {65, 33});
  addOperand(step, b, Operand::READ, plan::F32, {65, 17});
  addOperand(step, c, Operand::READ_WRITE, plan::F32, {33, 17});
  addOperand(step, bias, Operand::READ, plan::F32, {17});
  if (scratch > 0)
    addOperand(step, builder.step(scratch), Operand::SCRATCH);
  for (bool poison : {false, true}) {
    auto session = open(builder.finish(), poison);
    ASSERT_TRUE(session);
    for (const plan::Slice &slice : {a, b, c, bias})
      randomize(view<float>(*session, slice));
    std::span<float> av = view<float>(*session, a), bv = view<float>(*session, b), cv = view<float>(*session, c);
    std::vector<double> expected(33 * 17);
    for (int i = 0; i < 33; ++i)
      for (int j = 0; j < 17; ++j) {
        double sum = 0;
        for (int p = 0; p < 65; ++p)
          sum += double(av[p * 33 + i]) * bv[p * 17 + j];
        expected[i * 17 + j] = 0.5 * sum + cv[i * 17 + j] + view<float>(*session, bias)[j];
      }
    ASSERT_TRUE(session->run(0));
    expectNear(cv, expected, 5e-5, "C"); // 65 float32 terms of size 1
  }

  if (scratch < 2)
    GTEST_SKIP() << "the library needs no scratch on this CPU";
  // One byte less than the library wants.
  PlanFile file = builder.finish();
  plan::Step &tight = *file.plan.mutable_programs(0)->mutable_steps(0);
  tight.mutable_gemm()->set_scratch_bytes(scratch - 1);
  std::string why = refusal(file);
  EXPECT_NE(why.find("too little scratch"), std::string::npos) << why;
  EXPECT_NE(why.find("step 0 'product'"), std::string::npos) << why;
}

struct AttentionCase {
  static constexpr int B = 2, H = 4, Hkv = 2, T = 9, D = 8;
  PlanBuilder builder;
  std::vector<plan::Slice> q = slices(4, B * T * H * D);    // q, out, dout, dq
  std::vector<plan::Slice> kv = slices(4, B * T * Hkv * D); // k, v, dk, dv
  plan::Slice lse = builder.state(B * H * T * 4), rng = builder.state(16), padding = builder.state(B * T);

  std::vector<plan::Slice> slices(int count, int64_t elements) {
    std::vector<plan::Slice> result(count);
    for (plan::Slice &slice : result)
      slice = builder.state(elements * 4);
    return result;
  }

  plan::Step &add(bool backward, float dropout, bool padded) {
    plan::Step &step = builder.addStep(backward ? "backward" : "forward");
    plan::Attention &attention = *step.mutable_attention();
    attention.set_backward(backward);
    attention.set_batch(B);
    attention.set_heads(H);
    attention.set_kv_heads(Hkv);
    attention.set_queries(T);
    attention.set_keys(T);
    attention.set_head_dim(D);
    attention.set_scale(0.3f);
    attention.set_causal(true);
    attention.set_dropout(dropout);
    attention.set_has_padding(padded);
    cpu::AttentionShape shape{{B, H, Hkv, T, T, D, 0.3f, true, dropout}};
    attention.set_scratch_bytes(cpu::attentionScratchBytes(shape, 2, backward));
    auto operand = [&](const plan::Slice &slice, Operand::Access access) {
      addOperand(step, slice, access, plan::F32, {static_cast<int64_t>(slice.bytes() / 4)});
    };
    if (backward)
      operand(q[2], Operand::READ);
    operand(q[0], Operand::READ);
    operand(kv[0], Operand::READ);
    operand(kv[1], Operand::READ);
    operand(q[1], backward ? Operand::READ : Operand::WRITE);
    operand(lse, backward ? Operand::READ : Operand::WRITE);
    if (backward) {
      operand(q[3], Operand::WRITE);
      operand(kv[2], Operand::WRITE);
      operand(kv[3], Operand::WRITE);
    }
    auto beforeResults = [&](const plan::Slice &slice, plan::DType type, const std::vector<int64_t> &dims) {
      addOperand(step, slice, Operand::READ, type, dims);
      auto &operands = *step.mutable_operands();
      for (int i = operands.size() - 1; i > (backward ? 6 : 3); --i)
        operands.SwapElements(i, i - 1);
    };
    if (dropout > 0)
      beforeResults(rng, plan::I64, {2});
    if (padded)
      beforeResults(padding, plan::BOOL, {B, T});
    addOperand(step, builder.step(attention.scratch_bytes()), Operand::SCRATCH);
    return step;
  }
};

void attention(bool padded) {
  AttentionCase test;
  constexpr int B = test.B, H = test.H, Hkv = test.Hkv, T = test.T, D = test.D;
  test.builder.program("micro_step");
  test.add(false, 0, padded);
  test.add(true, 0, padded);
  auto session = open(test.builder.finish(), true);
  ASSERT_TRUE(session);
  for (const plan::Slice &slice : {test.q[0], test.q[2], test.kv[0], test.kv[1]})
    randomize(view<float>(*session, slice));
  auto hides = [&](int b, int j) { return padded && j > 0 && (b + j) % 3 == 0; };
  for (int i = 0; i < B * T; ++i)
    view<uint8_t>(*session, test.padding)[i] = hides(i / T, i % T) ? 1 : 0;
  ASSERT_TRUE(session->run(0));

  auto at = [&](const plan::Slice &slice, int b, int t, int h, int heads, int d) -> float & {
    return view<float>(*session, slice)[((b * T + t) * heads + h) * D + d];
  };
  std::vector<double> out(B * T * H * D), dq(out.size()), dk(B * T * Hkv * D), dv(dk.size()), lse(B * H * T);
  for (int b = 0; b < B; ++b)
    for (int h = 0; h < H; ++h)
      for (int i = 0; i < T; ++i) {
        int g = h / (H / Hkv);
        std::vector<double> p(i + 1), dp(i + 1);
        double sum = 0, dot = 0;
        for (int j = 0; j <= i; ++j) {
          for (int d = 0; d < D; ++d) {
            p[j] += 0.3f * double(at(test.q[0], b, i, h, H, d)) * at(test.kv[0], b, j, g, Hkv, d);
            dp[j] += double(at(test.q[2], b, i, h, H, d)) * at(test.kv[1], b, j, g, Hkv, d);
          }
          if (hides(b, j))
            p[j] = -INFINITY;
          sum += std::exp(p[j]);
        }
        lse[(b * H + h) * T + i] = std::log(sum);
        for (int j = 0; j <= i; ++j) {
          p[j] = std::exp(p[j]) / sum;
          dot += p[j] * dp[j];
        }
        for (int j = 0; j <= i; ++j)
          for (int d = 0; d < D; ++d) {
            double ds = 0.3f * p[j] * (dp[j] - dot);
            int row = ((b * T + i) * H + h) * D + d, key = ((b * T + j) * Hkv + g) * D + d;
            out[row] += p[j] * at(test.kv[1], b, j, g, Hkv, d);
            dq[row] += ds * at(test.kv[0], b, j, g, Hkv, d);
            dk[key] += ds * at(test.q[0], b, i, h, H, d);
            dv[key] += p[j] * at(test.q[2], b, i, h, H, d);
          }
      }
  // Sums of up to 18 terms of size 1 in float32, and a fast exponential.
  expectNear(view<float>(*session, test.q[1]), out, 2e-5, "out");
  expectNear(view<float>(*session, test.lse), lse, 2e-5, "lse");
  expectNear(view<float>(*session, test.q[3]), dq, 2e-5, "dq");
  expectNear(view<float>(*session, test.kv[2]), dk, 2e-5, "dk");
  expectNear(view<float>(*session, test.kv[3]), dv, 2e-5, "dv");
}

TEST(Steps, Attention) {
  attention(false);
  attention(true);
}

void dropoutFollowsTheCounters(bool padded) {
  AttentionCase test;
  test.builder.program("micro_step");
  test.add(false, 0.5f, padded);
  test.add(true, 0.5f, padded);
  auto session = open(test.builder.finish());
  ASSERT_TRUE(session);
  for (const plan::Slice &slice : {test.q[0], test.q[2], test.kv[0], test.kv[1]})
    randomize(view<float>(*session, slice));
  auto run = [&](int64_t update, int64_t microBatch) {
    view<int64_t>(*session, test.rng)[0] = update;
    view<int64_t>(*session, test.rng)[1] = microBatch;
    EXPECT_TRUE(session->run(0));
    std::vector<float> result = copyOf(view<float>(*session, test.q[1]));
    std::vector<float> gradient = copyOf(view<float>(*session, test.kv[3]));
    result.insert(result.end(), gradient.begin(), gradient.end());
    return result;
  };
  std::vector<float> first = run(3, 1);
  EXPECT_NE(run(4, 1), first);
  EXPECT_NE(run(3, 0), first);
  EXPECT_EQ(run(3, 1), first);
  // <out, dout> = <v, dv>: attention is linear in v, the same weights dropped in both directions.
  double forward = 0, backward = 0;
  for (size_t i = 0; i < view<float>(*session, test.q[1]).size(); ++i)
    forward += double(view<float>(*session, test.q[1])[i]) * view<float>(*session, test.q[2])[i];
  for (size_t i = 0; i < view<float>(*session, test.kv[1]).size(); ++i)
    backward += double(view<float>(*session, test.kv[1])[i]) * view<float>(*session, test.kv[3])[i];
  EXPECT_NEAR(forward, backward, 1e-4 * std::fabs(forward) + 1e-4);
}

TEST(Steps, AttentionDropoutFollowsTheCounters) {
  dropoutFollowsTheCounters(false);
  dropoutFollowsTheCounters(true);
}

/// Routing of 2 groups of 6 tokens among 4 experts with 2 slots.
struct RouteCase {
  static constexpr int G = 2, S = 6, E = 4, C = 2, K = 2;
  PlanBuilder builder;
  plan::Slice logits = builder.state(G * S * E * 4), mask = builder.state(G * S), noise = builder.state(G * S * E * 4);
  plan::Slice expert = builder.state(G * S * K * 4), slot = builder.state(G * S * K * 4);
  plan::Slice weight = builder.state(G * S * K * 4), token = builder.state(E * G * C * 4), aux = builder.state(G * 4);
  plan::Slice probs = builder.state(G * S * E * 4), fraction = builder.state(G * E * 4),
              metrics = builder.state(G * 36);
  plan::Slice dweight = builder.state(G * S * K * 4), daux = builder.state(G * 4),
              dlogits = builder.state(G * S * E * 4);

  void add(bool backward) {
    plan::Step &step = builder.addStep(backward ? "backward" : "forward");
    plan::Route &route = *step.mutable_route();
    route.set_backward(backward);
    route.set_groups(G);
    route.set_tokens(S);
    route.set_experts(E);
    route.set_capacity(C);
    route.set_top_k(K);
    route.set_policy(plan::Route::SAMPLING);
    route.set_has_mask(true);
    auto f32 = [&](const plan::Slice &slice, Operand::Access access, const std::vector<int64_t> &shape) {
      addOperand(step, slice, access, plan::F32, shape);
    };
    if (backward) {
      f32(dweight, Operand::READ, {G, S, K});
      f32(daux, Operand::READ, {G});
      f32(probs, Operand::READ, {G, S, E});
      addOperand(step, expert, Operand::READ, plan::I32, {G, S, K});
      addOperand(step, slot, Operand::READ, plan::I32, {G, S, K});
      f32(fraction, Operand::READ, {G, E});
      f32(dlogits, Operand::WRITE, {G, S, E});
      return;
    }
    f32(logits, Operand::READ, {G, S, E});
    addOperand(step, mask, Operand::READ, plan::BOOL, {G, S});
    f32(noise, Operand::READ, {G, S, E});
    addOperand(step, expert, Operand::WRITE, plan::I32, {G, S, K});
    addOperand(step, slot, Operand::WRITE, plan::I32, {G, S, K});
    f32(weight, Operand::WRITE, {G, S, K});
    addOperand(step, token, Operand::WRITE, plan::I32, {E, G, C});
    f32(aux, Operand::WRITE, {G});
    f32(probs, Operand::WRITE, {G, S, E});
    f32(fraction, Operand::WRITE, {G, E});
    f32(metrics, Operand::WRITE, {G, 9});
    cpu::RouteShape shape{G, S, E, C, K, cpu::RoutePolicy::Sampling};
    route.set_scratch_bytes(cpu::routeScratchBytes(shape));
    if (route.scratch_bytes() > 0)
      addOperand(step, builder.step(route.scratch_bytes()), Operand::SCRATCH);
  }
};

TEST(Steps, Route) {
  RouteCase test;
  test.builder.program("micro_step");
  test.add(false);
  test.add(true);
  auto session = open(test.builder.finish());
  ASSERT_TRUE(session);
  for (const plan::Slice &slice : {test.logits, test.noise, test.dweight, test.daux})
    randomize(view<float>(*session, slice));
  view<uint8_t>(*session, test.mask)[7] = 1;
  ASSERT_TRUE(session->run(0));

  std::span<float> logits = view<float>(*session, test.logits), noise = view<float>(*session, test.noise);
  std::span<int32_t> expert = view<int32_t>(*session, test.expert), slot = view<int32_t>(*session, test.slot);
  std::span<int32_t> token = view<int32_t>(*session, test.token);
  std::span<float> probs = view<float>(*session, test.probs), aux = view<float>(*session, test.aux);
  constexpr int G = test.G, S = test.S, E = test.E, C = test.C, K = test.K;
  int dropped = 0, placed = 0;
  for (int g = 0; g < G; ++g) {
    double expectedAux = 0;
    for (int e = 0; e < E; ++e) {
      double mean = 0, first = 0;
      for (int s = 0; s < S; ++s) {
        const float *row = &logits[(g * S + s) * E];
        double sum = 0;
        for (int i = 0; i < E; ++i)
          sum += std::exp(double(row[i]));
        EXPECT_NEAR(probs[(g * S + s) * E + e], std::exp(double(row[e])) / sum, 1e-6);
        mean += std::exp(double(row[e])) / sum / S;
        bool masked = g * S + s == 7;
        first += !masked && std::max_element(row, row + E) - row == e ? 1.0 / S : 0;
      }
      EXPECT_NEAR(view<float>(*session, test.fraction)[g * E + e], first, 1e-6);
      expectedAux += E * mean * first;
    }
    EXPECT_NEAR(aux[g], expectedAux, 1e-5);
    for (int s = 0; s < S; ++s) {
      int row = g * S + s;
      const float *l = &logits[row * E];
      int first = static_cast<int>(std::max_element(l, l + E) - l), second = first == 0 ? 1 : 0;
      for (int e = 0; e < E; ++e)
        if (e != first && l[e] + noise[row * E + e] > l[second] + noise[row * E + second])
          second = e;
      EXPECT_EQ(expert[row * K], first);
      EXPECT_EQ(expert[row * K + 1], second);
      for (int k = 0; k < K; ++k) {
        int place = slot[row * K + k];
        dropped += place < 0;
        if (row == 7) {
          EXPECT_EQ(place, -1);
        }
        if (place < 0) {
          EXPECT_EQ(view<float>(*session, test.weight)[row * K + k], 0.0f);
          continue;
        }
        ++placed;
        EXPECT_EQ(token[(expert[row * K + k] * G + g) * C + place], s * K + k);
      }
    }
  }
  EXPECT_GT(dropped, 2); // 24 choices for 16 slots
  EXPECT_EQ(std::ranges::count_if(token, [](int32_t t) { return t >= 0; }), placed);

  // Central differences of sum(weight * dweight) + sum(aux * daux). In float32, hence the tolerance.
  std::vector<float> gradient = copyOf(view<float>(*session, test.dlogits));
  auto loss = [&] {
    EXPECT_TRUE(session->run(0));
    double sum = 0;
    for (int i = 0; i < G * S * K; ++i)
      sum += double(view<float>(*session, test.weight)[i]) * view<float>(*session, test.dweight)[i];
    for (int g = 0; g < G; ++g)
      sum += double(view<float>(*session, test.aux)[g]) * view<float>(*session, test.daux)[g];
    return sum;
  };
  for (int i = 0; i < G * S * E; ++i) {
    float value = logits[i], step = 1e-3f;
    logits[i] = value + step;
    double up = loss();
    logits[i] = value - step;
    double down = loss();
    logits[i] = value;
    EXPECT_NEAR(gradient[i], (up - down) / (2 * step), 2e-3) << i;
  }
}

template <typename Index> void scatterAdd(plan::DType dtype, bool accumulate) {
  constexpr int N = 500, M = 131, V = 37;
  PlanBuilder builder;
  plan::Slice index = builder.state(N * sizeof(Index)), rows = builder.state(N * M * 4),
              table = builder.state(V * M * 4);
  builder.program("update");
  plan::Step &step = builder.addStep("scatter");
  step.mutable_scatter_add()->set_rows(N);
  step.mutable_scatter_add()->set_width(M);
  step.mutable_scatter_add()->set_table_rows(V);
  step.mutable_scatter_add()->set_accumulate(accumulate);
  addOperand(step, index, Operand::READ, dtype, {N});
  addOperand(step, rows, Operand::READ, plan::F32, {N, M});
  addOperand(step, table, accumulate ? Operand::READ_WRITE : Operand::WRITE, plan::F32, {V, M});
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  randomize(view<float>(*session, rows));
  randomize(view<float>(*session, table));
  std::span<Index> indices = view<Index>(*session, index);
  for (Index &i : indices)
    i = static_cast<Index>(generator() % (V + 1)) - 1; // -1: skipped
  std::vector<float> expected = copyOf(view<float>(*session, table));
  if (!accumulate)
    std::ranges::fill(expected, 0.0f);
  for (int i = 0; i < N; ++i)
    for (int d = 0; d < M && indices[i] >= 0; ++d)
      expected[indices[i] * M + d] += view<float>(*session, rows)[i * M + d];
  ASSERT_TRUE(session->run(0));
  EXPECT_EQ(copyOf(view<float>(*session, table)), expected); // the order is fixed, hence the bits

  indices[3] = V;
  Status status = session->run(0);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().str().find("1 indices lie beyond"), std::string::npos) << status.error().str();
}

TEST(Steps, ScatterAdd) {
  scatterAdd<int32_t>(plan::I32, true);
  scatterAdd<int64_t>(plan::I64, false);
}

TEST(Steps, LibraryKernelsRefuseOtherTypes) {
  PlanFile file = everyKindOfRecord();
  file.plan.clear_images();
  file.plan.clear_kernels();
  file.blobs.clear();
  file.plan.mutable_programs(0)->mutable_steps()->DeleteSubrange(0, 2); // kernel and product
  file.plan.mutable_programs(0)->mutable_steps(5)->clear_waits();
  PlanFile scatter = file;
  for (int tensor : {0, 1, 2, 4}) // q, k, v, out
    file.plan.mutable_programs(0)->mutable_steps(0)->mutable_operands(tensor)->set_dtype(plan::F16);
  std::string why = refusal(file);
  EXPECT_NE(why.find("attention in float32 and bfloat16 only"), std::string::npos) << why;

  scatter.plan.mutable_programs(0)->mutable_steps()->DeleteSubrange(0, 4); // attention and routing
  scatter.plan.mutable_programs(0)->mutable_steps(0)->mutable_operands(1)->set_dtype(plan::BF16);
  why = refusal(scatter);
  EXPECT_NE(why.find("in float32 only"), std::string::npos) << why;
}

} // namespace
