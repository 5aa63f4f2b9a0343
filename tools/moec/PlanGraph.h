//===- PlanGraph.h - Which step uses what which step made ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_PLANGRAPH_H
#define MOEC_TOOLS_MOEC_PLANGRAPH_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe::tools {

/// Step `to` reads `bytes` bytes of which step `from` was the last writer; indexes into the program's steps.
struct PlanEdge {
  int from, to;
  uint64_t bytes;
};

/// The flow of data between the steps of one program, ordered by `to`, then `from`. Bytes are followed, not buffers:
/// buffers share memory, and a step may read a part of what another wrote, or of what several wrote. Bytes that no
/// earlier step of the program wrote (parameters, inputs, gradients so far) have no edge. The order of the steps in the
/// plan counts. The plan must have passed `checkPlanStructure`.
std::vector<PlanEdge> dataFlow(const plan::Plan &plan, const plan::Program &program);

/// The layer that a step belongs to: its name up to the first part that is a number ("decoder.layers.3"); empty if
/// there is none. Parts are separated by `.` and `/`.
std::string layerOf(const std::string &stepName);

/// The graph of `program` in Graphviz's language: a box for each step (name, kind, FLOPs), a frame for each layer, an
/// arrow for each edge (bytes).
std::string planGraphDot(const plan::Plan &plan, const plan::Program &program);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_PLANGRAPH_H
