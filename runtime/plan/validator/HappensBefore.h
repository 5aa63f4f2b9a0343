//===- HappensBefore.h - Which steps of a program are ordered -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_VALIDATOR_HAPPENSBEFORE_H
#define MOEC_RUNTIME_PLAN_VALIDATOR_HAPPENSBEFORE_H

#include "runtime/plan/plan.pb.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moe::validator {

/// Bounds the memory of the clocks: compute and one lane per communicator are far fewer.
inline constexpr std::size_t kMostLanes = 64;

/// The order that lanes and signals enforce, as one vector clock per step: for each lane, how many of its steps have
/// completed when this step has.
class HappensBefore {
public:
  /// Every wait must refer to a signal that exactly one earlier step raises; at most `kMostLanes` lanes.
  explicit HappensBefore(const plan::Program &program);

  /// Whether step `a` has completed whenever step `b` starts. Requires a < b (as listed).
  bool before(uint32_t a, uint32_t b) const { return clocks[std::size_t(b) * count + lanes[a]] > positions[a]; }

  uint32_t laneCount() const { return count; }
  /// Lane of a step, numbered from 0 in order of appearance.
  uint32_t lane(uint32_t step) const { return lanes[step]; }

private:
  uint32_t count = 0;
  std::vector<uint32_t> lanes;     ///< by step
  std::vector<uint32_t> positions; ///< by step: its number within its lane
  std::vector<uint32_t> clocks;    ///< [steps, lanes]
};

} // namespace moe::validator

#endif // MOEC_RUNTIME_PLAN_VALIDATOR_HAPPENSBEFORE_H
