//===- Exposure.cpp - Which collectives computation waits for -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Exposure.h"

#include "runtime/plan/Collectives.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <map>

namespace moe {

namespace {

/// Picoseconds [begin, end).
struct Span {
  int64_t begin = 0, end = 0;
};

int64_t timeOf(const plan::Plan &plan, const plan::Step &step, const MachineEstimate &machine) {
  if (step.has_collective()) {
    const uint64_t ranks = groupSize(plan, step.collective().axes());
    return machine.sending(
        static_cast<double>(collectiveTraffic(step.collective(), step.operands(0).dtype(), ranks).bytes));
  }
  double bytes = 0;
  for (const plan::Operand &operand : step.operands())
    bytes += static_cast<double>(operand.slice().bytes()) * (operand.access() == plan::Operand::READ_WRITE ? 2 : 1);
  const bool narrow =
      step.operands_size() > 0 && (step.operands(0).dtype() == plan::BF16 || step.operands(0).dtype() == plan::F16);
  return machine.computing(step.flops(), bytes, narrow);
}

} // namespace

std::vector<Exposure> estimateExposure(const plan::Plan &plan, const plan::Program &program,
                                       const MachineEstimate &machine) {
  std::vector<Exposure> found;
  std::vector<Span> running; ///< by number in `found`
  std::vector<Span> stalls;  ///< of lane 0, in their order
  std::map<uint32_t, int64_t> clocks{{0, 0}};
  std::vector<int64_t> raised(size_t{program.signals()} + 1);
  for (int i = 0; i < program.steps_size(); ++i) {
    const plan::Step &step = program.steps(i);
    int64_t &clock = clocks[step.lane()];
    Span span{clock, 0};
    for (uint32_t signal : step.waits())
      span.begin = std::max(span.begin, raised[signal]);
    if (step.lane() == 0 && span.begin > clock)
      stalls.push_back({clock, span.begin});
    span.end = span.begin + timeOf(plan, step, machine);
    clock = raised[step.signal()] = span.end;
    if (!step.has_collective())
      continue;
    found.push_back({i, span.end - span.begin, 0});
    running.push_back(span);
    if (step.lane() == 0)
      stalls.push_back(span);
  }
  int64_t end = 0;
  for (const auto &[lane, clock] : clocks)
    end = std::max(end, clock);
  stalls.push_back({clocks[0], end});
  for (size_t i = 0; i < found.size(); ++i)
    for (const Span &stall : stalls)
      found[i].exposed +=
          std::max<int64_t>(std::min(stall.end, running[i].end) - std::max(stall.begin, running[i].begin), 0);
  return found;
}

} // namespace moe
