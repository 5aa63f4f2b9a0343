//===- HappensBefore.cpp - Vector clocks from lanes and signals ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/validator/HappensBefore.h"

#include <algorithm>
#include <unordered_map>

namespace moe::validator {

HappensBefore::HappensBefore(const plan::Program &program) {
  uint32_t steps = uint32_t(program.steps_size());
  std::unordered_map<uint32_t, uint32_t> numbers;
  lanes.reserve(steps);
  for (const plan::Step &step : program.steps())
    lanes.push_back(numbers.emplace(step.lane(), uint32_t(numbers.size())).first->second);
  count = uint32_t(numbers.size());

  positions.resize(steps);
  clocks.assign(std::size_t(steps) * count, 0);
  std::vector<uint32_t> lengths(count, 0); // steps of the lane so far
  std::vector<uint32_t> latest(count, 0);  // the last of them
  std::unordered_map<uint32_t, uint32_t> raisers;
  for (uint32_t s = 0; s < steps; ++s) {
    uint32_t *clock = &clocks[std::size_t(s) * count];
    auto join = [&](uint32_t earlier) {
      const uint32_t *other = &clocks[std::size_t(earlier) * count];
      for (uint32_t l = 0; l < count; ++l)
        clock[l] = std::max(clock[l], other[l]);
    };
    uint32_t lane = lanes[s];
    if (lengths[lane] != 0)
      join(latest[lane]);
    const plan::Step &step = program.steps(int(s));
    for (uint32_t wait : step.waits())
      join(raisers.at(wait));
    positions[s] = lengths[lane]++;
    latest[lane] = s;
    clock[lane] = lengths[lane];
    if (step.signal() != 0)
      raisers.emplace(step.signal(), s);
  }
}

} // namespace moe::validator
