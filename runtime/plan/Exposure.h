//===- Exposure.h - Which collectives computation waits for -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_EXPOSURE_H
#define MOEC_RUNTIME_PLAN_EXPOSURE_H

#include "runtime/plan/MachineEstimate.h"
#include "runtime/plan/plan.pb.h"

#include <vector>

namespace moe {

/// Estimated time of a collective, in picoseconds.
struct Exposure {
  int step = 0;        ///< of the program
  int64_t time = 0;    ///< from when the ranks send until all have what they wait for
  int64_t exposed = 0; ///< of it, while lane 0 stands still: waiting for this collective or one behind it
};

/// Runs a program on the estimated machine, lanes side by side as waits and signals let them, and says for each
/// collective, in their order, how much of its time no computation covers. A collective in lane 0 is exposed
/// altogether; the end of the program waits for all lanes. The plan must have passed `checkPlanStructure`.
std::vector<Exposure> estimateExposure(const plan::Plan &plan, const plan::Program &program,
                                       const MachineEstimate &machine);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_EXPOSURE_H
