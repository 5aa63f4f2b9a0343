//===- WorkTest.cpp - Library work writes what its operands declare -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Validator.h"
#include "test/runtime/validator/PlanBuilder.h"

#include <gtest/gtest.h>

#include <utility>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

struct Part {
  Operand::Access access;
  plan::DType type;
  std::vector<int64_t> shape;
};

/// A program that defines each operand that is read, then runs one step on them. Operand i is buffer i.
plan::Plan around(plan::Step work, const std::vector<Part> &parts) {
  PlanBuilder b;
  constexpr uint64_t kApart = 4096;
  uint32_t arena = b.arena(plan::Arena::STEP, kApart * parts.size());
  std::vector<Operand> operands, defined;
  for (const Part &part : parts) {
    uint32_t index = uint32_t(operands.size());
    operands.push_back(operand(part.access, index, 0, part.type, part.shape));
    b.buffer("operand" + std::to_string(index), arena, kApart * index, kApart);
    if (part.access == Operand::READ || part.access == Operand::READ_WRITE)
      defined.push_back(operand(Operand::WRITE, index, 0, kApart));
  }
  plan::Program &p = b.program("forward");
  b.step(p, "define", 0, defined);
  for (Operand &operand : operands)
    *work.add_operands() = std::move(operand);
  *p.add_steps() = std::move(work);
  return b.finish();
}

Operand &operandOf(plan::Plan &plan, int index) {
  return *plan.mutable_programs(0)->mutable_steps(1)->mutable_operands(index);
}
plan::Gemm &gemmOf(plan::Plan &plan) {
  return *plan.mutable_programs(0)->mutable_steps(1)->mutable_gemm();
}

std::string rules(const plan::Plan &plan) {
  std::string result;
  for (const Finding &finding : validate(plan).findings)
    result += std::string(ruleName(finding.rule)) + "@" + std::to_string(finding.step) + " ";
  return result;
}

/// Each operand that is written may be neither longer nor shorter by an element.
void expectExactWrites(const plan::Plan &plan) {
  ASSERT_EQ(rules(plan), "") << validate(plan).status().error().why;
  const plan::Step &step = plan.programs(0).steps(1);
  int written = 0;
  for (int i = 0; i < step.operands_size(); ++i) {
    if (step.operands(i).access() != Operand::WRITE)
      continue;
    ++written;
    for (int64_t by : {-8, 8}) { // bytes; a multiple of every element size
      plan::Plan changed = plan;
      Operand &operand = operandOf(changed, i);
      operand.clear_shape();
      operand.mutable_slice()->set_bytes(uint64_t(int64_t(operand.slice().bytes()) + by));
      EXPECT_EQ(rules(changed), by < 0 ? "structure@-1 " : "coverage@1 ") << "operand " << i << " by " << by;
    }
  }
  EXPECT_GT(written, 0);
}

/// Heads side by side: A [batch 3, m 4, k 2] lies within rows of 6, as do the results.
plan::Plan gemm() {
  plan::Step step;
  plan::Gemm &g = *step.mutable_gemm();
  g.set_batch(3);
  g.set_m(4);
  g.set_n(5);
  g.set_k(2);
  g.set_lda(6);
  g.set_stride_a(2);
  g.set_ldb(5);
  g.set_stride_b(10);
  g.set_ldc(15);
  g.set_stride_c(5);
  g.set_alpha(1);
  g.set_has_bias(true);
  return around(step, {{Operand::READ, plan::F32, {4, 3, 2}},
                       {Operand::READ, plan::F32, {3, 2, 5}},
                       {Operand::WRITE, plan::F32, {4, 3, 5}},
                       {Operand::READ, plan::F32, {5}}});
}

TEST(Work, GemmWritesAllOfC) {
  expectExactWrites(gemm());
}

TEST(Work, GemmStrides) {
  struct Change {
    void (plan::Gemm::*set)(int64_t);
    int64_t value;
    const char *expected;
  };
  const Change changes[] = {
      {&plan::Gemm::set_lda, 1, "structure@-1 "},       // rows of A overlap
      {&plan::Gemm::set_lda, 7, "structure@-1 "},       // beyond the end of A
      {&plan::Gemm::set_lda, 5, "coverage@1 "},         // the third head meets the next row
      {&plan::Gemm::set_stride_a, 1, "coverage@1 "},    // heads overlap
      {&plan::Gemm::set_stride_a, 0, ""},               // one A for all
      {&plan::Gemm::set_stride_b, 9, "coverage@1 "},    // matrices overlap
      {&plan::Gemm::set_stride_b, 11, "structure@-1 "}, // beyond the end of B
      {&plan::Gemm::set_stride_c, 4, "coverage@1 "},    // results overlap
      {&plan::Gemm::set_stride_c, 0, "structure@-1 "},  // all results in one place
      {&plan::Gemm::set_ldc, 14, "coverage@1 "},        // results overlap
      {&plan::Gemm::set_ldc, INT64_MAX, "structure@-1 "},
      {&plan::Gemm::set_stride_c, INT64_MAX, "structure@-1 "},
  };
  for (const Change &change : changes) {
    plan::Plan plan = gemm();
    (gemmOf(plan).*change.set)(change.value);
    EXPECT_EQ(rules(plan), change.expected) << change.value;
  }
}

TEST(Work, GemmLeavesGaps) {
  plan::Plan plan = gemm();
  gemmOf(plan).set_n(4); // columns 4, 9, 14 of each row of C stay as they were
  gemmOf(plan).set_has_bias(false);
  plan.mutable_programs(0)->mutable_steps(1)->mutable_operands()->RemoveLast();
  EXPECT_EQ(rules(plan), "coverage@1 ");
}

TEST(Work, AttentionForward) {
  plan::Step step;
  plan::Attention &a = *step.mutable_attention();
  a.set_batch(2);
  a.set_heads(4);
  a.set_kv_heads(2);
  a.set_queries(3);
  a.set_keys(5);
  a.set_head_dim(2);
  a.set_scale(1);
  std::vector<Part> parts{{Operand::READ, plan::F32, {2, 3, 4, 2}},
                          {Operand::READ, plan::F32, {2, 5, 2, 2}},
                          {Operand::READ, plan::F32, {2, 5, 2, 2}},
                          {Operand::WRITE, plan::F32, {2, 3, 4, 2}},
                          {Operand::WRITE, plan::F32, {2, 4, 3}}};
  expectExactWrites(around(step, parts));
  a.set_dropout(0.5f);
  parts.insert(parts.begin() + 3, Part{Operand::READ, plan::I64, {2}});
  expectExactWrites(around(step, parts));
  a.set_has_padding(true);
  parts.insert(parts.begin() + 3, Part{Operand::READ, plan::BOOL, {2, 5}});
  expectExactWrites(around(step, parts));
  a.set_has_sinks(true);
  parts.insert(parts.begin() + 5, Part{Operand::READ, plan::F32, {4}});
  expectExactWrites(around(step, parts));
}

TEST(Work, AttentionBackward) {
  plan::Step step;
  plan::Attention &a = *step.mutable_attention();
  a.set_backward(true);
  a.set_batch(2);
  a.set_heads(4);
  a.set_kv_heads(2);
  a.set_queries(3);
  a.set_keys(5);
  a.set_head_dim(2);
  a.set_scale(1);
  a.set_scratch_bytes(64);
  std::vector<int64_t> q{2, 3, 4, 2}, kv{2, 5, 2, 2};
  std::vector<Part> parts{{Operand::READ, plan::F32, q},   {Operand::READ, plan::F32, q},
                          {Operand::READ, plan::F32, kv},  {Operand::READ, plan::F32, kv},
                          {Operand::READ, plan::F32, q},   {Operand::READ, plan::F32, {2, 4, 3}},
                          {Operand::WRITE, plan::F32, q},  {Operand::WRITE, plan::F32, kv},
                          {Operand::WRITE, plan::F32, kv}, {Operand::SCRATCH, plan::F32, {16}}};
  expectExactWrites(around(step, parts));
  a.set_dropout(0.5f);
  parts.insert(parts.begin() + 6, Part{Operand::READ, plan::I64, {2}});
  expectExactWrites(around(step, parts));
  a.set_has_padding(true);
  parts.insert(parts.begin() + 6, Part{Operand::READ, plan::BOOL, {2, 5}});
  expectExactWrites(around(step, parts));
}

TEST(Work, Route) {
  constexpr int64_t G = 2, S = 6, E = 4, K = 2, C = 8;
  for (auto policy : {plan::Route::ALL, plan::Route::SAMPLING, plan::Route::RANDOM}) {
    for (bool mask : {false, true}) {
      plan::Step step;
      plan::Route &r = *step.mutable_route();
      r.set_groups(G);
      r.set_tokens(S);
      r.set_experts(E);
      r.set_top_k(K);
      r.set_capacity(C);
      r.set_policy(policy);
      r.set_has_mask(mask);
      std::vector<Part> parts{{Operand::READ, plan::F32, {G, S, E}}};
      if (mask)
        parts.push_back({Operand::READ, plan::BOOL, {G, S}});
      if (policy == plan::Route::SAMPLING)
        parts.push_back({Operand::READ, plan::F32, {G, S, E}});
      if (policy == plan::Route::RANDOM)
        parts.push_back({Operand::READ, plan::F32, {G, S}});
      parts.insert(parts.end(), {{Operand::WRITE, plan::I32, {G, S, K}},
                                 {Operand::WRITE, plan::I32, {G, S, K}},
                                 {Operand::WRITE, plan::F32, {G, S, K}},
                                 {Operand::WRITE, plan::I32, {E, G, C}},
                                 {Operand::WRITE, plan::F32, {G}},
                                 {Operand::WRITE, plan::F32, {G, S, E}},
                                 {Operand::WRITE, plan::F32, {G, E}},
                                 {Operand::WRITE, plan::F32, {G, 9}}});
      expectExactWrites(around(step, parts));
    }
  }
}

TEST(Work, RouteBackwardAndScatterAdd) {
  plan::Step step;
  plan::Route &r = *step.mutable_route();
  r.set_backward(true);
  r.set_groups(2);
  r.set_tokens(6);
  r.set_experts(4);
  r.set_top_k(2);
  r.set_capacity(8);
  expectExactWrites(around(step, {{Operand::READ, plan::F32, {2, 6, 2}},
                                  {Operand::READ, plan::F32, {2}},
                                  {Operand::READ, plan::F32, {2, 6, 4}},
                                  {Operand::READ, plan::I32, {2, 6, 2}},
                                  {Operand::READ, plan::I32, {2, 6, 2}},
                                  {Operand::READ, plan::F32, {2, 4}},
                                  {Operand::WRITE, plan::F32, {2, 6, 4}}}));
  plan::Step scatter;
  scatter.mutable_scatter_add()->set_rows(3);
  scatter.mutable_scatter_add()->set_width(4);
  scatter.mutable_scatter_add()->set_table_rows(5);
  expectExactWrites(around(
      scatter,
      {{Operand::READ, plan::I64, {3}}, {Operand::READ, plan::F32, {3, 4}}, {Operand::WRITE, plan::F32, {5, 4}}}));
}

TEST(Work, GroupedGemm) {
  for (bool separate : {false, true}) {
    plan::Step step;
    plan::GroupedGemm &g = *step.mutable_grouped_gemm();
    g.set_blocks(3);
    g.set_block_rows(2);
    g.set_experts(4);
    g.set_left(5);
    g.set_right(7);
    g.set_separate(separate);
    std::vector<int64_t> weight = separate ? std::vector<int64_t>{5, 7} : std::vector<int64_t>{4, 5, 7};
    std::vector<Part> parts{{Operand::READ, plan::F32, {6, 5}}, {Operand::READ, plan::I32, {3}}};
    parts.insert(parts.end(), separate ? 4 : 1, Part{Operand::READ, plan::F32, weight});
    parts.push_back({Operand::WRITE, plan::F32, {6, 7}});
    expectExactWrites(around(step, parts));
    g.set_weight_grad(true);
    parts = {{Operand::READ, plan::F32, {6, 5}}, {Operand::READ, plan::F32, {6, 7}}, {Operand::READ, plan::I32, {3}}};
    parts.insert(parts.end(), separate ? 4 : 1, Part{Operand::WRITE, plan::F32, weight});
    expectExactWrites(around(step, parts));
  }
}

TEST(Work, CopyTakesWholeParts) {
  plan::Step step;
  step.mutable_copy()->set_index(true);
  EXPECT_EQ(rules(around(step, {{Operand::READ, plan::I64, {3, 4}},
                                {Operand::WRITE, plan::I64, {4}},
                                {Operand::READ, plan::I64, {1}}})),
            "");
  EXPECT_EQ(
      rules(around(
          step, {{Operand::READ, plan::I64, {13}}, {Operand::WRITE, plan::I64, {4}}, {Operand::READ, plan::I64, {1}}})),
      "shape@1 ");
}

} // namespace
