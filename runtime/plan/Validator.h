//===- Validator.h - Proof that a plan touches only what it may, in an order that holds ---------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The validator shares no code with scheduler and planner. From a plan alone it re-derives happens-before (program
// order within a lane, plus wait after signal) and proves, for every access that a step declares:
//
//   1. structure (runtime/plan/Structure.h), and what relates records: buffers and tensors that persist do not overlap,
//      a step writes all of what it declares WRITE, signals are raised once, waits can not deadlock;
//   2. no two accesses of which one writes touch the same arena bytes unordered;
//   3. every byte read from a STEP arena was last written in this program through the very buffer it is read through;
//   4. the certificate is the sum of the arenas;
//   5. all ranks issue the collectives of a program in one order, the one whose digest the program carries;
//   6. copies of parameters and moments that ranks have are computed from what these ranks hold alike.
//
// What it proves about a plan that passes: results depend neither on which legal order the steps run in, nor on what
// the memory held before. It does not know what the steps were meant to compute.
//
// All integers of a plan are untrusted. Cost is near linear in the number of operands.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_VALIDATOR_H
#define MOEC_RUNTIME_PLAN_VALIDATOR_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/plan.pb.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace moe {

/// The rule that a finding breaks.
enum class Rule {
  Structure,   ///< a record that means nothing by itself; no other rule has been checked then
  Reference,   ///< a name that refers to nothing or is used twice
  Overlap,     ///< two buffers of a persistent arena, two state tensors or two inputs share bytes
  Shape,       ///< a slice that is larger than its shape
  Arena,       ///< state outside the state arenas
  Coverage,    ///< a step that does not write all of what it declares WRITE, or writes some of it twice
  Signal,      ///< a signal that is raised never or twice; too many lanes
  Deadlock,    ///< a wait for a step that comes no earlier
  Race,        ///< two conflicting accesses that are not ordered
  Undefined,   ///< a read of bytes that no step of the program has defined
  Foreign,     ///< a read of bytes that hold the value of another buffer by then
  Output,      ///< an output or metric whose bytes do not hold its value at the end of the program
  Destroyed,   ///< a program leaves garbage in a persistent arena
  ReadOnly,    ///< a write to a frozen tensor
  Certificate, ///< the certificate is not the sum of the arenas
  Collective,  ///< collectives that ranks could issue in different orders, or that are not those the plan tells of
  Replica,     ///< a parameter that all ranks of an axis should hold alike, and might not
};

/// "race", "undefined", ... as printed in front of a finding.
std::string_view ruleName(Rule rule);

struct Finding {
  Rule rule;
  int program = -1; ///< index into `Plan.programs`; -1 if the finding belongs to no program
  int step = -1;    ///< index into `Program.steps`; -1 if it belongs to no step
  Diagnostic diagnostic;
};

struct ValidatorOptions {
  /// Findings reported in full; the rest is only counted.
  std::size_t limit = 20;
};

struct Validation {
  std::vector<Finding> findings;
  /// Findings beyond `ValidatorOptions::limit`.
  std::uint64_t omitted = 0;

  bool ok() const { return findings.empty() && omitted == 0; }
  /// Success, or one diagnostic that lists all findings.
  Status status() const;
};

/// Checks a whole plan. The memory rules (2, 3) of a program are checked only if its signals are sound, since there is
/// no order otherwise.
Validation validate(const plan::Plan &plan, const ValidatorOptions &options = {});

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_VALIDATOR_H
