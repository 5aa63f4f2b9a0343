//===- StepRun.h - One step on the simulated device, watched ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_STEPRUN_H
#define MOEC_TEST_GPU_SIM_STEPRUN_H

#include "runtime/cuda/Simulated.h"
#include "test/gpu/sim/Fibers.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace moe::sim {

/// How to run a task this time.
struct RunMode {
  Order order = Order::Ascending;
  uint8_t garbage = 0; ///< of shared memory
};

/// A launch, a copy, a fill, a product.
struct Task {
  std::string name;
  bool computes = false;                                ///< depends on the mode unless it is right
  bool meets = false;                                   ///< waits for other ranks, who read this one's memory meanwhile
  std::function<std::string(const RunMode &)> run = {}; ///< returns what went wrong
};

/// What the backend has told of a step. Slices of which one is written may overlap others as the plan declares them.
struct Step {
  std::string name;
  std::vector<MoeSimAccess> accesses;
};

/// Runs the tasks of a step in order, as Simulator.h describes. Without a step they run once and unwatched. Returns
/// what went wrong, naming step and task.
std::string runStep(const Step *step, std::span<const Task *const> tasks);

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_STEPRUN_H
