//===- PlanBuilder.cpp - Small plans written in code --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/plan/PlanBuilder.h"
#include "test/runtime/KernelParameters.h"
#include "test/runtime/validator/MutateRanks.h"

namespace moe::test {

using plan::Operand;

PlanBuilder::PlanBuilder(int threads) {
  file.plan.mutable_header()->set_producer("test");
  file.plan.mutable_target()->set_device("cpu");
  file.plan.mutable_target()->set_name("test");
  file.plan.mutable_target()->set_threads(threads);
  const std::pair<const char *, plan::Arena::Class> arenas[] = {{"state", plan::Arena::STATE},
                                                                {"step", plan::Arena::STEP},
                                                                {"staging", plan::Arena::STAGING},
                                                                {"gradients", plan::Arena::GRADIENTS}};
  for (auto [name, kind] : arenas) {
    plan::Arena &arena = *file.plan.add_arenas();
    arena.set_name(name);
    arena.set_class_(kind);
    arena.set_alignment(64);
  }
}

plan::Slice PlanBuilder::buffer(uint32_t index, uint64_t bytes) {
  plan::Arena &arena = *file.plan.mutable_arenas(static_cast<int>(index));
  plan::Slice slice;
  slice.set_buffer(file.plan.buffers_size());
  slice.set_bytes(bytes);
  plan::Buffer &buffer = *file.plan.add_buffers();
  buffer.set_name("b" + std::to_string(slice.buffer()));
  buffer.set_arena(index);
  buffer.set_offset((arena.bytes() + 63) / 64 * 64);
  buffer.set_bytes(bytes);
  arena.set_bytes(buffer.offset() + bytes);
  return slice;
}

plan::Program &PlanBuilder::program(const std::string &name) {
  plan::Program &program = *file.plan.add_programs();
  program.set_name(name);
  return program;
}

plan::Step &PlanBuilder::addStep(const std::string &name) {
  plan::Step &step = *file.plan.mutable_programs(file.plan.programs_size() - 1)->add_steps();
  step.set_name(name);
  return step;
}

plan::Step &PlanBuilder::addFill(const plan::Slice &slice, uint8_t byte) {
  plan::Step &step = addStep("fill");
  step.mutable_fill()->set_byte(byte);
  addOperand(step, slice, Operand::WRITE);
  return step;
}

plan::Step &PlanBuilder::addCopy(const plan::Slice &from, const plan::Slice &to) {
  plan::Step &step = addStep("copy");
  step.mutable_copy();
  addOperand(step, from, Operand::READ);
  addOperand(step, to, Operand::WRITE);
  return step;
}

PlanFile PlanBuilder::finish() const {
  PlanFile result = file;
  declareKernelParameters(result.plan);
  renewDigests(result.plan);
  uint64_t total = 0;
  for (const plan::Arena &arena : result.plan.arenas()) {
    plan::Certificate::Class &entry = *result.plan.mutable_certificate()->add_classes();
    entry.set_name(arena.name());
    entry.set_bytes(arena.bytes());
    total += arena.bytes();
  }
  result.plan.mutable_certificate()->set_total(total);
  return result;
}

void addOperand(plan::Step &step, const plan::Slice &slice, Operand::Access access, plan::DType dtype,
                const std::vector<int64_t> &shape) {
  plan::Operand &operand = *step.add_operands();
  *operand.mutable_slice() = slice;
  operand.set_access(access);
  operand.set_dtype(dtype);
  operand.mutable_shape()->Add(shape.begin(), shape.end());
}

namespace {

void addTables(PlanBuilder &builder) {
  plan::Plan &plan = builder.file.plan;
  plan::MeshAxis &axis = *plan.add_mesh();
  axis.set_name("data");
  axis.set_size(1);
  plan::StateTensor &weight = *plan.add_state();
  weight.set_name("weight");
  weight.set_kind(plan::StateTensor::PARAMETER);
  weight.set_dtype(plan::F32);
  weight.add_shape(3);
  weight.add_shape(4);
  *weight.mutable_slice() = builder.state(48);
  weight.mutable_initial()->add_zero_rows(2);
  plan::Input &input = *plan.add_inputs();
  input.set_name("tokens");
  input.set_dtype(plan::I64);
  input.add_shape(5);
  *input.mutable_staging() = builder.staging(80);
  plan.mutable_training()->set_accumulate(2);
  plan::Metric &metric = *plan.add_metrics();
  metric.set_name("loss");
  metric.set_dtype(plan::F32);
  *metric.mutable_slice() = builder.state(4);
  plan.add_images()->set_format("elf");
  builder.file.blobs.emplace_back("no code at all");
  plan.add_kernels()->set_symbol("kernel0");
}

void addGemm(PlanBuilder &builder) {
  plan::Step &step = builder.addStep("gemm");
  plan::Gemm &gemm = *step.mutable_gemm();
  gemm.set_batch(2);
  gemm.set_m(3);
  gemm.set_n(5);
  gemm.set_k(7);
  gemm.set_lda(7);
  gemm.set_ldb(5);
  gemm.set_ldc(5);
  gemm.set_stride_a(21);
  gemm.set_stride_b(35);
  gemm.set_stride_c(15);
  gemm.set_alpha(1);
  gemm.set_has_bias(true);
  gemm.set_scratch_bytes(64);
  addOperand(step, builder.step(2 * 21 * 4), Operand::READ, plan::F32, {2, 3, 7});
  addOperand(step, builder.step(2 * 35 * 4), Operand::READ, plan::F32, {2, 7, 5});
  addOperand(step, builder.step(2 * 15 * 4), Operand::WRITE, plan::F32, {2, 3, 5});
  addOperand(step, builder.step(5 * 4), Operand::READ, plan::F32, {5});
  addOperand(step, builder.step(64), Operand::SCRATCH);
}

void addAttention(PlanBuilder &builder, bool backward) {
  plan::Step &step = builder.addStep("attention");
  plan::Attention &attention = *step.mutable_attention();
  attention.set_backward(backward);
  attention.set_batch(1);
  attention.set_heads(2);
  attention.set_kv_heads(1);
  attention.set_queries(3);
  attention.set_keys(4);
  attention.set_head_dim(8);
  attention.set_scale(0.5f);
  attention.set_dropout(0.1f);
  attention.set_scratch_bytes(64);
  auto add = [&](Operand::Access access, const std::vector<int64_t> &shape) {
    int64_t count = 4;
    for (int64_t size : shape)
      count *= size;
    addOperand(step, builder.step(count), access, plan::F32, shape);
  };
  std::vector<int64_t> q = {1, 3, 2, 8}, kv = {1, 4, 1, 8}, lse = {1, 2, 3};
  auto rng = [&] { addOperand(step, builder.state(16), Operand::READ, plan::I64, {2}); };
  attention.set_has_padding(backward);
  if (backward)
    add(Operand::READ, q);
  add(Operand::READ, q);
  add(Operand::READ, kv);
  add(Operand::READ, kv);
  if (backward) {
    add(Operand::READ, q);
    add(Operand::READ, lse);
    addOperand(step, builder.step(4), Operand::READ, plan::BOOL, {1, 4});
    rng();
    add(Operand::WRITE, q);
    add(Operand::WRITE, kv);
    add(Operand::WRITE, kv);
  } else {
    rng();
    add(Operand::WRITE, q);
    add(Operand::WRITE, lse);
  }
  addOperand(step, builder.step(64), Operand::SCRATCH);
}

void addRoute(PlanBuilder &builder, bool backward) {
  plan::Step &step = builder.addStep("route");
  plan::Route &route = *step.mutable_route();
  route.set_backward(backward);
  route.set_groups(2);
  route.set_tokens(3);
  route.set_experts(4);
  route.set_capacity(5);
  route.set_top_k(2);
  if (!backward) {
    route.set_has_mask(true);
    route.set_policy(plan::Route::SAMPLING);
  }
  auto add = [&](Operand::Access access, plan::DType dtype, const std::vector<int64_t> &shape) {
    int64_t count = dtype == plan::BOOL ? 1 : 4;
    for (int64_t size : shape)
      count *= size;
    addOperand(step, builder.step(count), access, dtype, shape);
  };
  if (backward) {
    add(Operand::READ, plan::F32, {2, 3, 2});
    add(Operand::READ, plan::F32, {2});
    add(Operand::READ, plan::F32, {2, 3, 4});
    add(Operand::READ, plan::I32, {2, 3, 2});
    add(Operand::READ, plan::I32, {2, 3, 2});
    add(Operand::READ, plan::F32, {2, 4});
    add(Operand::WRITE, plan::F32, {2, 3, 4});
    return;
  }
  add(Operand::READ, plan::F32, {2, 3, 4});
  add(Operand::READ, plan::BOOL, {2, 3});
  add(Operand::READ, plan::F32, {2, 3, 4});
  add(Operand::WRITE, plan::I32, {2, 3, 2});
  add(Operand::WRITE, plan::I32, {2, 3, 2});
  add(Operand::WRITE, plan::F32, {2, 3, 2});
  add(Operand::WRITE, plan::I32, {4, 2, 5});
  add(Operand::WRITE, plan::F32, {2});
  add(Operand::WRITE, plan::F32, {2, 3, 4});
  add(Operand::WRITE, plan::F32, {2, 4});
  add(Operand::WRITE, plan::F32, {2, 9});
}

/// Three blocks of two rows, two experts; the weight gradient has an operand for each of them.
void addGroupedGemm(PlanBuilder &builder, bool weightGrad) {
  plan::Step &step = builder.addStep("grouped_gemm");
  plan::GroupedGemm &gemm = *step.mutable_grouped_gemm();
  gemm.set_weight_grad(weightGrad);
  gemm.set_blocks(3);
  gemm.set_block_rows(2);
  gemm.set_experts(2);
  gemm.set_left(4);
  gemm.set_right(5);
  gemm.set_separate(weightGrad);
  auto add = [&](Operand::Access access, plan::DType dtype, const std::vector<int64_t> &shape) {
    int64_t bytes = 4;
    for (int64_t size : shape)
      bytes *= size;
    addOperand(step, builder.step(bytes), access, dtype, shape);
  };
  add(Operand::READ, plan::F32, {6, 4});
  if (weightGrad)
    add(Operand::READ, plan::F32, {6, 5});
  add(Operand::READ, plan::I32, {3});
  if (weightGrad) {
    add(Operand::WRITE, plan::F32, {4, 5});
    add(Operand::WRITE, plan::F32, {4, 5});
  } else {
    add(Operand::READ, plan::F32, {2, 4, 5});
    add(Operand::WRITE, plan::F32, {6, 5});
  }
}

} // namespace

PlanFile everyKindOfRecord() {
  PlanBuilder builder;
  addTables(builder);
  plan::Program &program = builder.program("micro_step");
  program.set_signals(1);

  plan::Step &call = builder.addStep("kernel"); // step 0
  call.mutable_kernel()->set_extent(16);
  call.mutable_kernel()->set_grain(4);
  call.set_signal(1);
  addOperand(call, builder.step(64), Operand::WRITE, plan::F32, {16});
  addGemm(builder);             // 1
  addAttention(builder, false); // 2
  addAttention(builder, true);  // 3
  addRoute(builder, false);     // 4
  addRoute(builder, true);      // 5

  plan::Step &scatter = builder.addStep("scatter_add"); // 6
  scatter.mutable_scatter_add()->set_rows(3);
  scatter.mutable_scatter_add()->set_width(4);
  scatter.mutable_scatter_add()->set_table_rows(6);
  addOperand(scatter, builder.step(24), Operand::READ, plan::I64, {3});
  addOperand(scatter, builder.step(48), Operand::READ, plan::F32, {3, 4});
  addOperand(scatter, builder.gradients(96), Operand::WRITE, plan::F32, {6, 4});

  plan::Slice out = builder.step(32);
  builder.addFill(out, 0).add_waits(1);                       // 7
  plan::Step &copy = builder.addCopy(builder.state(64), out); // 8
  copy.mutable_copy()->set_index(true);
  addOperand(copy, builder.state(8), Operand::READ, plan::I64);
  addGroupedGemm(builder, false); // 9
  addGroupedGemm(builder, true);  // 10
  plan::Output &output = *program.add_outputs();
  output.set_name("logits");
  output.set_dtype(plan::F32);
  output.add_shape(8);
  *output.mutable_slice() = out;
  return builder.finish();
}

} // namespace moe::test
