//===- TokenModel.cpp - The program from outside, on a model of a test's own --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/tools/moerun/TokenModel.h"

#include "test/runtime/plan/MeshPlan.h"

namespace moe::test {

PlanFile makePlan(const ModelOptions &options) {
  const int64_t batch = 16, all = batch * options.length, tokens = all / options.ranks; // tokens: of a rank
  PlanBuilder builder(1);
  plan::Plan &plan = builder.file.plan;
  const bool isSplit = options.ranks > 1;
  if (isSplit)
    addAxis(builder, "data", options.ranks);
  plan::Slice weight = builder.state(uint64_t(tokens) * 4), updates = builder.state(8), loss = builder.state(4);
  plan::Slice staged[2] = {builder.staging(uint64_t(tokens) * 8), builder.staging(uint64_t(tokens) * 8)};
  plan.add_images()->set_format("elf");
  builder.file.blobs.push_back(readFile(MOE_TEST_KERNELS));
  for (const char *symbol : {"mix_in", "count", "hang"}) {
    plan.add_kernels()->set_symbol(symbol);
    plan.mutable_kernels()->rbegin()->set_image(0);
  }
  auto call = [&](const char *program, uint32_t kernel, int64_t extent) -> plan::Step & {
    builder.program(program);
    plan::Step &step = builder.addStep(program);
    step.mutable_kernel()->set_kernel(kernel);
    step.mutable_kernel()->set_extent(extent);
    step.mutable_kernel()->set_grain(extent);
    return step;
  };
  plan::Step &mix = call("micro_step", options.hangs ? 2 : 0, tokens);
  addOperand(mix, staged[0], plan::Operand::READ, plan::I64, {tokens});
  addOperand(mix, weight, plan::Operand::READ_WRITE, plan::F32, {tokens});
  plan::Step &count = call("update", 1, 1);
  addOperand(count, weight, plan::Operand::READ, plan::F32, {tokens});
  addOperand(count, updates, plan::Operand::READ_WRITE, plan::I64, {1});
  plan::Slice own = isSplit ? builder.step(4) : loss;
  addOperand(count, own, plan::Operand::WRITE, plan::F32, {1});
  if (isSplit) {
    // The loss is that of the first rank, on all of them.
    plan::Step &partial = builder.addStep("partial loss");
    partial.mutable_as_partial()->add_axes(0);
    partial.mutable_as_partial()->set_in_place(true);
    addOperand(partial, own, plan::Operand::READ_WRITE, plan::F32, {1});
    plan::Step &sum = addCollective(builder, plan::Collective::ALL_REDUCE, {0}, 1);
    sum.set_name("the loss");
    addOperand(sum, own, plan::Operand::READ, plan::F32, {1});
    addOperand(sum, loss, plan::Operand::WRITE, plan::F32, {1});
    addOperand(sum, builder.step(uint64_t(options.ranks) * 4), plan::Operand::SCRATCH);
    sum.mutable_collective()->set_scratch_bytes(uint64_t(options.ranks) * 4);
  }

  auto addState = [&](const std::string &name, plan::StateTensor::Kind kind, plan::DType type, int64_t length,
                      const plan::Slice &slice) -> plan::StateTensor & {
    plan::StateTensor &tensor = *plan.add_state();
    tensor.set_name(name);
    tensor.set_kind(kind);
    tensor.set_dtype(type);
    tensor.add_shape(length);
    *tensor.mutable_slice() = slice;
    tensor.set_checkpointed(true);
    tensor.mutable_initial()->mutable_constant()->set_value(0);
    return tensor;
  };
  plan::StateTensor &parameter = addState(options.parameter, plan::StateTensor::PARAMETER, plan::F32, all, weight);
  if (isSplit && options.isFlat) {
    parameter.mutable_flat()->set_bucket(all);
    parameter.mutable_flat()->add_axes(0);
  } else if (isSplit) {
    parameter.add_layout()->set_kind(plan::AxisLayout::SHARD);
  }
  addState("control.num_updates", plan::StateTensor::CONTROL, plan::I64, 1, updates);
  for (bool labels : {false, true}) {
    plan::Input &input = *plan.add_inputs();
    input.set_name(labels ? "labels" : "input_ids");
    input.set_dtype(plan::I64);
    input.add_shape(batch);
    input.add_shape(options.length);
    input.set_vocabulary(260);
    input.set_is_labels(labels);
    if (isSplit)
      input.add_axes(0);
    *input.mutable_staging() = staged[labels];
  }
  auto addMetric = [&](const char *name, plan::DType type, const plan::Slice &slice) {
    plan::Metric &metric = *plan.add_metrics();
    metric.set_name(name);
    metric.set_dtype(type);
    metric.set_program("update");
    *metric.mutable_slice() = slice;
  };
  addMetric("loss", plan::F32, loss);
  addMetric("num_updates", plan::I64, updates);
  plan::Training &training = *plan.mutable_training();
  training.set_accumulate(1);
  training.set_micro_batch(batch);
  training.set_sequence_length(options.length);
  training.set_vocabulary(260);
  training.set_pad_id(1);
  return builder.finish();
}

} // namespace moe::test
