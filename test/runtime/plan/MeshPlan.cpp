//===- MeshPlan.cpp - A plan for many ranks written in code -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/plan/MeshPlan.h"

namespace moe::test {

using plan::Operand;

void addAxis(PlanBuilder &builder, const std::string &name, int64_t size) {
  plan::MeshAxis &axis = *builder.file.plan.add_mesh();
  axis.set_name(name);
  axis.set_size(size);
}

plan::Step &addCollective(PlanBuilder &builder, plan::Collective::Kind kind, const std::vector<uint32_t> &axes,
                          int64_t count) {
  plan::Step &step = builder.addStep("collective");
  plan::Collective &work = *step.mutable_collective();
  work.set_kind(kind);
  work.mutable_axes()->Add(axes.begin(), axes.end());
  work.set_count(count);
  return step;
}

namespace {

plan::StateTensor &addState(PlanBuilder &builder, const std::string &name, plan::StateTensor::Kind kind,
                            const std::vector<int64_t> &shape, const plan::Slice &slice) {
  plan::StateTensor &tensor = *builder.file.plan.add_state();
  tensor.set_name(name);
  tensor.set_kind(kind);
  tensor.set_dtype(plan::F32);
  tensor.mutable_shape()->Add(shape.begin(), shape.end());
  *tensor.mutable_slice() = slice;
  return tensor;
}

void addLayout(plan::AxisLayout &layout, uint32_t axis, plan::AxisLayout::Kind kind, uint32_t dim = 0) {
  layout.set_axis(axis);
  layout.set_kind(kind);
  layout.set_dim(dim);
}

void addTables(PlanBuilder &builder) {
  plan::StateTensor &split =
      addState(builder, "split", plan::StateTensor::PARAMETER, {6, 4}, builder.state(uint64_t{4} * 4));
  addLayout(*split.add_layout(), 0, plan::AxisLayout::SHARD, 0);
  addLayout(*split.add_layout(), 1, plan::AxisLayout::SHARD, 0);
  plan::StateTensor &grad =
      addState(builder, "split.grad", plan::StateTensor::GRADIENT, {6, 4}, builder.gradients(uint64_t{8} * 4));
  grad.set_of("split");
  addLayout(*grad.add_layout(), 0, plan::AxisLayout::PARTIAL);
  addLayout(*grad.add_layout(), 1, plan::AxisLayout::SHARD, 0);
  plan::Slice share = builder.state(uint64_t{3} * 4);
  const std::pair<int64_t, int64_t> places[] = {{0, 10}, {10, 7}};
  for (auto [position, elements] : places) {
    std::string name = position == 0 ? "flat0" : "flat1";
    plan::StateTensor &flat = addState(builder, name, plan::StateTensor::PARAMETER, {elements}, share);
    flat.mutable_flat()->set_position(position);
    flat.mutable_flat()->set_bucket(18);
    flat.mutable_flat()->add_axes(0);
    flat.mutable_flat()->add_axes(1);
  }
  plan::Input &input = *builder.file.plan.add_inputs();
  input.set_name("tokens");
  input.set_dtype(plan::I64);
  input.add_shape(6);
  input.add_shape(5);
  input.add_axes(0);
  input.add_axes(1);
  *input.mutable_staging() = builder.staging(uint64_t{5} * 8);
}

} // namespace

PlanFile meshPlan() {
  PlanBuilder builder;
  addAxis(builder, "data", 2);
  addAxis(builder, "expert", 3);
  addTables(builder);
  builder.program("micro_step");
  plan::Slice rows = builder.step(12 * 4); // [2, 6]
  auto operands = [&](plan::Step &step, const std::vector<int64_t> &from, const std::vector<int64_t> &to,
                      uint64_t scratch = 0) {
    int64_t elements = 1;
    for (int64_t size : to)
      elements *= size;
    step.set_lane(1);
    addOperand(step, rows, Operand::READ, plan::F32, from);
    addOperand(step, builder.step(static_cast<uint64_t>(elements) * 4), Operand::WRITE, plan::F32, to);
    if (scratch > 0)
      addOperand(step, builder.step(scratch), Operand::SCRATCH);
    if (step.has_collective())
      step.mutable_collective()->set_scratch_bytes(scratch);
  };
  auto cut = [](plan::Parts &parts, int64_t outer, int64_t inner) {
    parts.set_outer(outer);
    parts.set_inner(inner);
  };
  builder.addFill(rows, 0).set_lane(1);
  operands(addCollective(builder, plan::Collective::ALL_REDUCE, {0, 1}, 12), {2, 6}, {2, 6}, 12 * 4);
  plan::Step &gather = addCollective(builder, plan::Collective::ALL_GATHER, {1}, 12);
  cut(*gather.mutable_collective()->mutable_concat(), 2, 6);
  operands(gather, {2, 6}, {2, 18}, 36 * 4); // unpacked
  plan::Step &scatter = addCollective(builder, plan::Collective::REDUCE_SCATTER, {1}, 12);
  cut(*scatter.mutable_collective()->mutable_split(), 2, 2);
  operands(scatter, {2, 6}, {2, 2}, 24 * 4); // packed, and the summands
  plan::Step &exchange = addCollective(builder, plan::Collective::ALL_TO_ALL, {1}, 12);
  cut(*exchange.mutable_collective()->mutable_split(), 2, 2);
  cut(*exchange.mutable_collective()->mutable_concat(), 1, 4);
  operands(exchange, {2, 6}, {6, 2}, 12 * 4); // packed
  plan::Step &inPlace = addCollective(builder, plan::Collective::ALL_REDUCE, {0}, 12);
  inPlace.set_lane(1);
  inPlace.mutable_collective()->set_in_place(true);
  inPlace.mutable_collective()->set_scratch_bytes(12 * 4);
  addOperand(inPlace, rows, Operand::READ_WRITE, plan::F32, {2, 6});
  addOperand(inPlace, builder.step(12 * 4), Operand::SCRATCH);
  plan::Step &slice = builder.addStep("slice");
  slice.mutable_axis_slice()->add_axes(1);
  cut(*slice.mutable_axis_slice()->mutable_parts(), 2, 2);
  operands(slice, {2, 6}, {2, 2});
  plan::Step &pad = builder.addStep("pad");
  pad.mutable_axis_slice()->add_axes(1);
  pad.mutable_axis_slice()->set_pad(true);
  cut(*pad.mutable_axis_slice()->mutable_parts(), 2, 6);
  operands(pad, {2, 6}, {2, 18});
  plan::Step &partial = builder.addStep("partial");
  partial.mutable_as_partial()->add_axes(0);
  operands(partial, {2, 6}, {2, 6});
  plan::Output &output = *builder.file.plan.mutable_programs(0)->add_outputs();
  output.set_name("rows");
  output.set_dtype(plan::F32);
  output.add_shape(4);
  output.add_shape(6);
  *output.mutable_slice() = rows;
  addLayout(*output.add_layout(), 0, plan::AxisLayout::SHARD);
  return builder.finish();
}

} // namespace moe::test
