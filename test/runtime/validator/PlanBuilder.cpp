//===- PlanBuilder.cpp - Small plans by hand ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/PlanBuilder.h"
#include "test/runtime/KernelParameters.h"

#include <algorithm>
#include <map>
#include <utility>

namespace moe::test {

plan::Operand operand(plan::Operand::Access access, uint32_t buffer, uint64_t offset, uint64_t bytes) {
  plan::Operand result;
  result.set_access(access);
  result.mutable_slice()->set_buffer(buffer);
  result.mutable_slice()->set_offset(offset);
  result.mutable_slice()->set_bytes(bytes);
  return result;
}

plan::Operand operand(plan::Operand::Access access, uint32_t buffer, uint64_t offset, plan::DType type,
                      std::vector<int64_t> shape) {
  static const std::map<plan::DType, uint64_t> kSizes{{plan::F32, 4}, {plan::BF16, 2}, {plan::F16, 2},
                                                      {plan::I32, 4}, {plan::I64, 8},  {plan::BOOL, 1}};
  uint64_t bytes = kSizes.at(type);
  for (int64_t dim : shape)
    bytes *= uint64_t(dim);
  plan::Operand result = operand(access, buffer, offset, bytes);
  result.set_dtype(type);
  for (int64_t dim : shape)
    result.add_shape(dim);
  return result;
}

PlanBuilder::PlanBuilder() {
  plan.mutable_target()->set_device("cpu");
  plan.mutable_target()->set_threads(1);
  plan.mutable_training()->set_accumulate(1);
  plan.add_images()->set_format("elf");
  plan.add_kernels()->set_symbol("k");
}

uint32_t PlanBuilder::arena(plan::Arena::Class kind, uint64_t bytes) {
  plan::Arena &arena = *plan.add_arenas();
  arena.set_name("arena" + std::to_string(plan.arenas_size() - 1));
  arena.set_class_(kind);
  arena.set_bytes(bytes);
  arena.set_alignment(64);
  return uint32_t(plan.arenas_size() - 1);
}

uint32_t PlanBuilder::buffer(const std::string &name, uint32_t arena, uint64_t offset, uint64_t bytes) {
  plan::Buffer &buffer = *plan.add_buffers();
  buffer.set_name(name);
  buffer.set_arena(arena);
  buffer.set_offset(offset);
  buffer.set_bytes(bytes);
  return uint32_t(plan.buffers_size() - 1);
}

plan::StateTensor &PlanBuilder::state(const std::string &name, plan::StateTensor::Kind kind, uint32_t buffer,
                                      uint64_t offset, int64_t floats) {
  plan::StateTensor &tensor = *plan.add_state();
  tensor.set_name(name);
  tensor.set_kind(kind);
  tensor.set_dtype(plan::F32);
  tensor.add_shape(floats);
  tensor.mutable_slice()->set_buffer(buffer);
  tensor.mutable_slice()->set_offset(offset);
  tensor.mutable_slice()->set_bytes(uint64_t(floats) * 4);
  return tensor;
}

plan::Program &PlanBuilder::program(const std::string &name) {
  plan::Program &program = *plan.add_programs();
  program.set_name(name);
  return program;
}

plan::Step &PlanBuilder::step(plan::Program &program, const std::string &name, uint32_t lane,
                              const std::vector<plan::Operand> &operands, const std::vector<uint32_t> &waits,
                              uint32_t signal) {
  plan::Step &step = *program.add_steps();
  step.set_name(name);
  step.set_lane(lane);
  for (const plan::Operand &operand : operands)
    *step.add_operands() = operand;
  for (uint32_t wait : waits)
    step.add_waits(wait);
  step.set_signal(signal);
  program.set_signals(std::max(program.signals(), signal));
  step.mutable_kernel()->set_extent(1);
  step.mutable_kernel()->set_grain(1);
  return step;
}

plan::Plan PlanBuilder::finish() {
  declareKernelParameters(plan);
  const std::pair<const char *, plan::Arena::Class> classes[] = {{"state", plan::Arena::STATE},
                                                                 {"gradients", plan::Arena::GRADIENTS},
                                                                 {"step", plan::Arena::STEP},
                                                                 {"staging", plan::Arena::STAGING}};
  plan::Certificate &certificate = *plan.mutable_certificate();
  for (const auto &[name, kind] : classes) {
    plan::Certificate::Class &entry = *certificate.add_classes();
    entry.set_name(name);
    for (const plan::Arena &arena : plan.arenas())
      if (arena.class_() == kind)
        entry.set_bytes(entry.bytes() + arena.bytes());
    certificate.set_total(certificate.total() + entry.bytes());
  }
  return std::move(plan);
}

} // namespace moe::test
