//===- PlanBuilder.h - Small plans written in code ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_PLAN_PLANBUILDER_H
#define MOEC_TEST_RUNTIME_PLAN_PLANBUILDER_H

#include "runtime/plan/PlanFile.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe::test {

/// Writes a well-formed plan for this machine's CPU, one buffer after the other. Arena 0 is STATE, 1 STEP, 2 STAGING,
/// 3 GRADIENTS.
class PlanBuilder {
public:
  explicit PlanBuilder(int threads = 2);

  /// A new buffer of `bytes` and the slice that covers it.
  plan::Slice state(uint64_t bytes) { return buffer(0, bytes); }
  plan::Slice step(uint64_t bytes) { return buffer(1, bytes); }
  plan::Slice staging(uint64_t bytes) { return buffer(2, bytes); }
  plan::Slice gradients(uint64_t bytes) { return buffer(3, bytes); }
  plan::Slice buffer(uint32_t arena, uint64_t bytes);

  /// A new program; steps are added to the last one.
  plan::Program &program(const std::string &name);
  plan::Step &addStep(const std::string &name);
  plan::Step &addFill(const plan::Slice &slice, uint8_t byte);
  plan::Step &addCopy(const plan::Slice &from, const plan::Slice &to);

  /// The plan so far, arena sizes and certificate included.
  PlanFile finish() const;

  PlanFile file;
};

/// Appends an operand.
void addOperand(plan::Step &step, const plan::Slice &slice, plan::Operand::Access access,
                plan::DType dtype = plan::DTYPE_UNSPECIFIED, const std::vector<int64_t> &shape = {});

/// A plan that has at least one record of every table and one step of every kind of work of one rank (see MeshPlan.h
/// for work between ranks). It is well formed; its image
/// is no ELF file.
PlanFile everyKindOfRecord();

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_PLAN_PLANBUILDER_H
