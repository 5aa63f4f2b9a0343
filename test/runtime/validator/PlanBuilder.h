//===- PlanBuilder.h - Small plans by hand ------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_VALIDATOR_PLANBUILDER_H
#define MOEC_TEST_RUNTIME_VALIDATOR_PLANBUILDER_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe::test {

/// An operand of raw bytes.
plan::Operand operand(plan::Operand::Access access, uint32_t buffer, uint64_t offset, uint64_t bytes);
/// The same with dtype and shape; the bytes follow from them.
plan::Operand operand(plan::Operand::Access access, uint32_t buffer, uint64_t offset, plan::DType type,
                      std::vector<int64_t> shape);

/// Collects a plan with one kernel for a one-thread CPU.
class PlanBuilder {
public:
  PlanBuilder();

  uint32_t arena(plan::Arena::Class kind, uint64_t bytes);
  uint32_t buffer(const std::string &name, uint32_t arena, uint64_t offset, uint64_t bytes);
  plan::StateTensor &state(const std::string &name, plan::StateTensor::Kind kind, uint32_t buffer, uint64_t offset,
                           int64_t floats);
  plan::Program &program(const std::string &name);
  /// A kernel call at the end of a program.
  static plan::Step &step(plan::Program &program, const std::string &name, uint32_t lane,
                          const std::vector<plan::Operand> &operands, const std::vector<uint32_t> &waits = {},
                          uint32_t signal = 0);

  /// The plan with the certificate that its arenas deserve.
  plan::Plan finish();

private:
  plan::Plan plan;
};

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_VALIDATOR_PLANBUILDER_H
