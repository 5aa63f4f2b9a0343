//===- Checks.h - The parts of the validator ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_VALIDATOR_CHECKS_H
#define MOEC_RUNTIME_PLAN_VALIDATOR_CHECKS_H

#include "runtime/plan/Validator.h"

#include <cstdint>
#include <string>
#include <utility>

namespace moe::validator {

/// Bytes [begin, end) of an arena.
struct Range {
  uint32_t arena = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
};

/// A program, a step and an operand; -1 where a finding has none.
struct Place {
  int program = -1;
  int step = -1;
  int operand = -1;
};

/// The plan under test, which has passed `checkPlanStructure`, and what has been found so far.
class Context {
public:
  Context(const plan::Plan &plan, const ValidatorOptions &options) : plan(plan), limit(options.limit) {}

  const plan::Plan &plan;

  void add(Rule rule, Place place, std::string what, std::string why = {});
  void add(Rule rule, Diagnostic diagnostic);
  Range rangeOf(const plan::Slice &slice) const {
    const plan::Buffer &buffer = plan.buffers(int(slice.buffer()));
    uint64_t begin = buffer.offset() + slice.offset();
    return {buffer.arena(), begin, begin + slice.bytes()};
  }
  const plan::Arena &arenaOf(const Range &range) const { return plan.arenas(int(range.arena)); }

  Validation take() { return std::move(result); }

private:
  std::size_t limit;
  Validation result;
};

/// Buffers, state, inputs and metrics against each other.
void checkTables(Context &context);
/// Shapes, coverage, lanes, signals and waits of a program. False if its steps have no order.
bool checkProgram(Context &context, int program);
/// Races and lifetimes of a program whose steps have an order.
void checkMemory(Context &context, int program);
/// What ranks should hold alike after a program whose steps have an order.
void checkReplicas(Context &context, int program);
/// Totals by class.
void checkCertificate(Context &context);

/// A name from the plan, quoted, cut to a sensible length and without control characters.
std::string quoted(const std::string &name);
/// `[begin, end)`.
std::string bytesOf(uint64_t begin, uint64_t end);
/// `buffer "h" [0, 64)` for bytes of a buffer given in arena coordinates.
std::string bufferBytes(const plan::Plan &plan, uint32_t buffer, uint64_t begin, uint64_t end);
/// `step 12 "h" of program "update"`.
std::string stepName(const plan::Plan &plan, int program, int step);

} // namespace moe::validator

#endif // MOEC_RUNTIME_PLAN_VALIDATOR_CHECKS_H
