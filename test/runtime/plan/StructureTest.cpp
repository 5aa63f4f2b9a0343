//===- StructureTest.cpp - Records that make no sense are refused -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Structure.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <cmath>
#include <functional>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>
#include <limits>
#include <random>

using namespace moe;

namespace {

// Steps of `everyKindOfRecord`.
enum {
  Kernel,
  Gemm,
  AttentionForward,
  AttentionBackward,
  RouteForward,
  RouteBackward,
  ScatterAdd,
  Fill,
  Copy,
  GroupedGemm,
  GroupedWeightGrad
};

plan::Step &step(plan::Plan &plan, int index) {
  return *plan.mutable_programs(0)->mutable_steps(index);
}

struct Fault {
  const char *expected; ///< part of the message
  std::function<void(plan::Plan &)> make;
};

TEST(Structure, AcceptsASoundPlan) {
  Status status = checkPlanStructure(test::everyKindOfRecord().plan);
  EXPECT_TRUE(status) << status.error().str();
}

TEST(Structure, NamesEachFault) {
  const uint64_t huge = UINT64_MAX - 8;
  const Fault faults[] = {
      {"no device", [](auto &p) { p.mutable_target()->clear_device(); }},
      {"0 threads", [](auto &p) { p.mutable_target()->set_threads(0); }},
      {"mesh axis 0 'data'", [](auto &p) { p.mutable_mesh(0)->set_size(0); }},
      {"no class", [](auto &p) { p.mutable_arenas(1)->clear_class_(); }},
      {"power of two", [](auto &p) { p.mutable_arenas(1)->set_alignment(48); }},
      {"power of two", [](auto &p) { p.mutable_arenas(1)->set_alignment(0); }},
      {"more than the certified", [](auto &p) { p.mutable_arenas(1)->set_bytes(uint64_t{1} << 62); }},
      {"more than the certified", [=](auto &p) { p.mutable_arenas(1)->set_bytes(huge); }},
      {"no arena 4", [](auto &p) { p.mutable_buffers(0)->set_arena(4); }},
      {"ends beyond its arena", [](auto &p) { p.mutable_buffers(0)->set_bytes(1 << 20); }},
      {"ends beyond its arena", [=](auto &p) { p.mutable_buffers(0)->set_offset(huge); }},
      {"state 0 'weight': there is no buffer", [](auto &p) { p.mutable_state(0)->mutable_slice()->set_buffer(999); }},
      {"state 0 'weight': its slice ends beyond", [=](auto &p) { p.mutable_state(0)->mutable_slice()->set_offset(huge); }},
      {"state 0 'weight': its shape", [](auto &p) { p.mutable_state(0)->set_shape(0, 4); }},
      {"state 0 'weight': its shape", [](auto &p) { p.mutable_state(0)->set_shape(0, -3); }},
      {"state 0 'weight': its shape", [](auto &p) { p.mutable_state(0)->set_shape(0, int64_t{1} << 62); }},
      {"state 0 'weight': it has no data type", [](auto &p) { p.mutable_state(0)->clear_dtype(); }},
      {"state 0 'weight': it has no kind", [](auto &p) { p.mutable_state(0)->clear_kind(); }},
      {"does not survive", [](auto &p) { *p.mutable_state(0)->mutable_slice() = step(p, Fill).operands(0).slice(); }},
      {"exported as ''", [](auto &p) { p.mutable_state(0)->add_exports(); }},
      {"that of another tensor",
       [](auto &p) {
         p.mutable_state(0)->add_exports()->set_name("a");
         p.mutable_state(0)->add_exports()->set_name("a");
       }},
      {"dimensions that it does not have",
       [](auto &p) {
         plan::ExportName *name = p.mutable_state(0)->add_exports();
         name->set_name("a");
         for (int i = 0; i < p.state(0).shape_size(); ++i)
           name->add_permutation(0);
         name->add_permutation(1);
       }},
      {"no row 3", [](auto &p) { p.mutable_state(0)->mutable_initial()->set_zero_rows(0, 3); }},
      {"another size", [](auto &p) { p.mutable_state(0)->mutable_initial()->mutable_data()->set_data("x"); }},
      {"occurs twice", [](auto &p) { *p.add_state() = p.state(0); }},
      {"input 0 'tokens': its shape", [](auto &p) { p.mutable_training()->set_accumulate(3); }},
      {"staging", [](auto &p) { p.mutable_arenas(2)->set_class_(plan::Arena::STATE); }},
      {"metric 0 'loss': its shape", [](auto &p) { p.mutable_metrics(0)->set_dtype(plan::I64); }},
      {"metric 0 'loss': it lies", [](auto &p) { *p.mutable_metrics(0)->mutable_slice() = step(p, Fill).operands(0).slice(); }},
      {"no image 2", [](auto &p) { p.mutable_kernels(0)->set_image(2); }},
      {"no symbol", [](auto &p) { p.mutable_kernels(0)->clear_symbol(); }},
      {"occurs twice", [](auto &p) { p.add_programs()->set_name("micro_step"); }},
      {"output 0 'logits': its shape", [](auto &p) { p.mutable_programs(0)->mutable_outputs(0)->set_shape(0, 9); }},
      {"more signals than steps", [](auto &p) { p.mutable_programs(0)->set_signals(UINT32_MAX); }},
      {"waits for signal 2", [](auto &p) { step(p, Fill).set_waits(0, 2); }},
      {"waits for signal 0", [](auto &p) { step(p, Fill).set_waits(0, 0); }},
      {"raises signal 7", [](auto &p) { step(p, Fill).set_signal(7); }},
      {"FLOP", [](auto &p) { step(p, Gemm).set_flops(std::nan("")); }},
      {"no work", [](auto &p) { step(p, Fill).clear_work(); }},
      {"no access", [](auto &p) { step(p, Fill).mutable_operands(0)->clear_access(); }},
      {"not aligned", [](auto &p) {
         auto &operand = *step(p, ScatterAdd).mutable_operands(0);
         operand.mutable_shape()->Set(0, 2);
         operand.mutable_slice()->set_offset(4);
         operand.mutable_slice()->set_bytes(20);
       }},
      {"no kernel 1", [](auto &p) { step(p, Kernel).mutable_kernel()->set_kernel(1); }},
      {"parameters of kernel0", [](auto &p) { p.mutable_kernels(0)->mutable_parameters()->RemoveLast(); }},
      {"1 numbers, kernel0 takes 0", [](auto &p) { step(p, Kernel).mutable_kernel()->add_numbers(7); }},
      {"bytes, kernel0 takes", [](auto &p) { p.mutable_kernels(0)->mutable_parameters(0)->set_bytes(1); }},
      {"kernel0 has SCRATCH", [](auto &p) { p.mutable_kernels(0)->mutable_parameters(0)->set_access(plan::Operand::SCRATCH); }},
      {"has access", [](auto &p) { step(p, Kernel).mutable_operands(0)->set_access(plan::Operand::SCRATCH); }},
      {"size is below 0", [](auto &p) { step(p, Kernel).mutable_kernel()->set_extent(-1); }},
      {"operand 0 (A)", [](auto &p) { step(p, Gemm).mutable_gemm()->set_stride_a(22); }},
      {"operand 0 (A)", [](auto &p) { step(p, Gemm).mutable_gemm()->set_lda(8); }},
      {"operand 1 (B)", [](auto &p) { step(p, Gemm).mutable_gemm()->set_stride_b(int64_t{1} << 62); }},
      {"operand 2 (C)", [](auto &p) { step(p, Gemm).mutable_gemm()->set_ldc(6); }},
      {"operand 3 (bias)", [](auto &p) { step(p, Gemm).mutable_operands(3)->set_dtype(plan::I32); }},
      {"operand 4 (scratch)", [](auto &p) { step(p, Gemm).mutable_gemm()->set_scratch_bytes(65); }},
      {"5 operands instead of 4", [](auto &p) { step(p, Gemm).mutable_gemm()->set_scratch_bytes(0); }},
      {"READ_WRITE", [](auto &p) { step(p, Gemm).mutable_gemm()->set_beta(1); }},
      {"row stride", [](auto &p) { step(p, Gemm).mutable_gemm()->set_ldb(4); }},
      {"row stride", [](auto &p) { step(p, Gemm).mutable_gemm()->set_transpose_b(true); }},
      {"on top of each other", [](auto &p) { step(p, Gemm).mutable_gemm()->set_stride_c(0); }},
      {"a size is below 1", [](auto &p) { step(p, Gemm).mutable_gemm()->set_k(0); }},
      {"beta", [](auto &p) { step(p, Gemm).mutable_gemm()->set_beta(0.5f); }},
      {"alpha", [](auto &p) { step(p, Gemm).mutable_gemm()->set_alpha(std::nanf("")); }},
      {"unknown activation", [](auto &p) { step(p, Gemm).mutable_gemm()->set_activation(plan::Gemm::Activation(9)); }},
      {"no multiple", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_kv_heads(3); }},
      {"operand 0 (q)", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_batch(2); }},
      {"operand 1 (k) has type BF16", [](auto &p) {
 step(p, AttentionForward).mutable_operands(1)->set_dtype(plan::BF16);
 step(p, AttentionForward).mutable_operands(1)->clear_shape();
 }},
      {"operand 10 (dv) has type F16", [](auto &p) {
 step(p, AttentionBackward).mutable_operands(10)->set_dtype(plan::F16);
 step(p, AttentionBackward).mutable_operands(10)->clear_shape();
 }},
      {"operand 2 (v)", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_keys(5); }},
      {"7 operands instead of 6", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_dropout(0); }},
      {"out of range", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_dropout(1); }},
      {"softcap or the window", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_softcap(-1); }},
      {"softcap or the window", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_softcap(std::nanf("")); }},
      {"softcap or the window", [](auto &p) { step(p, AttentionBackward).mutable_attention()->set_window(-1); }},
      {"reads no sinks", [](auto &p) { step(p, AttentionBackward).mutable_attention()->set_has_sinks(true); }},
      {"7 operands instead of 8", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_has_sinks(true); }},
      {"operand 5 (lse)", [](auto &p) {
 step(p, AttentionBackward).mutable_operands(5)->mutable_slice()->set_bytes(20);
 step(p, AttentionBackward).mutable_operands(5)->set_shape(2, 1);
 }},
      {"7 operands instead of 8", [](auto &p) { step(p, AttentionForward).mutable_attention()->set_has_padding(true); }},
      {"operand 6 (padding) has type I32", [](auto &p) {
 step(p, AttentionBackward).mutable_operands(6)->set_dtype(plan::I32);
 step(p, AttentionBackward).mutable_operands(6)->clear_shape();
 }},
      {"operand 6 (padding) has 3 bytes, 4 are needed", [](auto &p) {
 step(p, AttentionBackward).mutable_operands(6)->mutable_slice()->set_bytes(3);
 step(p, AttentionBackward).mutable_operands(6)->set_shape(1, 3);
 }},
      {"operand 7 (rng)", [](auto &p) { step(p, AttentionBackward).mutable_operands(7)->set_dtype(plan::I32); }},
      {"operand 9 (dk)", [](auto &p) { step(p, AttentionBackward).mutable_operands(9)->set_access(plan::Operand::READ); }},
      {"top_k", [](auto &p) { step(p, RouteForward).mutable_route()->set_top_k(3); }},
      {"operand 1 (mask)", [](auto &p) {
 step(p, RouteForward).mutable_operands(1)->set_dtype(plan::I32);
 step(p, RouteForward).mutable_operands(1)->clear_shape();
 }},
      {"operand 6 (token)", [](auto &p) { step(p, RouteForward).mutable_route()->set_capacity(6); }},
      {"operand 2 (uniform)", [](auto &p) {
         step(p, RouteForward).mutable_route()->set_policy(plan::Route::RANDOM);
         step(p, RouteForward).mutable_operands(2)->mutable_slice()->set_bytes(20);
         step(p, RouteForward).mutable_operands(2)->mutable_shape()->Clear();
       }},
      {"11 operands instead of 10", [](auto &p) { step(p, RouteForward).mutable_route()->set_policy(plan::Route::ALL); }},
      {"operand 6 (dlogits)", [](auto &p) { step(p, RouteBackward).mutable_operands(6)->set_access(plan::Operand::READ); }},
      {"operand 0 (index)", [](auto &p) { step(p, ScatterAdd).mutable_scatter_add()->set_rows(4); }},
      {"operand 2 (table)", [](auto &p) { step(p, ScatterAdd).mutable_scatter_add()->set_table_rows(7); }},
      {"READ_WRITE", [](auto &p) { step(p, ScatterAdd).mutable_scatter_add()->set_accumulate(true); }},
      {"the byte is 256", [](auto &p) { step(p, Fill).mutable_fill()->set_byte(256); }},
      {"32 bytes from a source of 64", [](auto &p) {
         step(p, Copy).mutable_copy()->set_index(false);
         step(p, Copy).mutable_operands()->RemoveLast();
       }},
      {"32 bytes from a source of 16", [](auto &p) { step(p, Copy).mutable_operands(0)->mutable_slice()->set_bytes(16); }},
      {"grouped_gemm: a size is below 1", [](auto &p) { step(p, GroupedGemm).mutable_grouped_gemm()->set_blocks(0); }},
      {"operand 0 (rows)", [](auto &p) { step(p, GroupedGemm).mutable_grouped_gemm()->set_block_rows(3); }},
      {"operand 1 (block_expert)", [](auto &p) { step(p, GroupedGemm).mutable_operands(1)->set_dtype(plan::F32); }},
      {"operand 2 (weight)", [](auto &p) { step(p, GroupedGemm).mutable_grouped_gemm()->set_experts(3); }},
      {"operand 2 (weight) has type BF16", [](auto &p) { step(p, GroupedGemm).mutable_operands(2)->set_dtype(plan::BF16); }},
      {"operand 3 (result)", [](auto &p) { step(p, GroupedGemm).mutable_operands(3)->set_access(plan::Operand::READ); }},
      {"4 operands instead of 5", [](auto &p) { step(p, GroupedGemm).mutable_grouped_gemm()->set_separate(true); }},
      {"operand 1 (rhs)",
       [](auto &p) { step(p, GroupedWeightGrad).mutable_operands(1)->set_access(plan::Operand::WRITE); }},
      {"operand 4 (weight)",
       [](auto &p) { step(p, GroupedWeightGrad).mutable_operands(4)->set_access(plan::Operand::READ); }},
      {"a weight gradient is not transposed",
       [](auto &p) { step(p, GroupedWeightGrad).mutable_grouped_gemm()->set_transposed(true); }},
      {"1000000000 experts with 5 operands",
       [](auto &p) { step(p, GroupedWeightGrad).mutable_grouped_gemm()->set_experts(1000000000); }},
      {"operand 2 (index)", [](auto &p) { step(p, Copy).mutable_operands(2)->set_dtype(plan::I32); }},
  };
  for (size_t i = 0; i < std::size(faults); ++i) {
    plan::Plan plan = test::everyKindOfRecord().plan;
    faults[i].make(plan);
    Status status = checkPlanStructure(plan);
    ASSERT_FALSE(status) << "fault " << i << ": " << faults[i].expected;
    EXPECT_NE(status.error().str().find(faults[i].expected), std::string::npos) << faults[i].expected << " is not in\n"
                                                                                << status.error().str();
  }
}

TEST(Structure, ReportsManyFaultsAtOnce) {
  plan::Plan plan = test::everyKindOfRecord().plan;
  plan.mutable_target()->set_threads(0);
  plan.mutable_kernels(0)->set_image(2);
  for (int i = 0; i < 30; ++i)
    plan.add_buffers()->set_arena(77);
  Status status = checkPlanStructure(plan);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().why.find("0 threads"), std::string::npos);
  EXPECT_NE(status.error().why.find("and 12 more"), std::string::npos) << status.error().why;
}

// Any bytes that protobuf accepts: the check must come to an end without touching memory it does not own.
TEST(Structure, SurvivesArbitraryMessages) {
  std::string sound = test::everyKindOfRecord().plan.SerializeAsString();
  std::mt19937 random(11);
  google::protobuf::LogSilencer silence; // names that are no UTF-8
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string altered = sound;
    for (int changes = 1 + random() % 4; changes > 0; --changes)
      altered[random() % altered.size()] = static_cast<char>(random());
    plan::Plan plan;
    if (!plan.ParseFromString(altered))
      continue;
    ++parsed;
    (void)checkPlanStructure(plan);
  }
  EXPECT_GT(parsed, 1000);
}

TEST(Structure, CountsSaturate) {
  google::protobuf::RepeatedField<int64_t> shape;
  EXPECT_EQ(elementCount(shape), 1u);
  shape.Add(int64_t{1} << 40);
  shape.Add(int64_t{1} << 40);
  EXPECT_EQ(elementCount(shape), UINT64_MAX);
  EXPECT_EQ(saturatingSum(UINT64_MAX, 1), UINT64_MAX);
  EXPECT_EQ(saturatingProduct(3, 5), 15u);
}

} // namespace
