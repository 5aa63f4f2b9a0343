//===- Lanes.cpp - Waits and signals between the lanes of a program ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/plan/Lanes.h"

#include "passes/BufferTable.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

void Lanes::take(Operation *op) {
  if (auto done = dyn_cast<DoneOp>(op)) {
    lastDone = std::max(lastDone, started.lookup(done.getStarted().getDefiningOp()));
    return;
  }
  auto lane = op->getAttrOfType<IntegerAttr>(kLaneAttr);
  const bool starts = lane && lane.getInt() != kComputeLane;
  for (; taken < program.steps_size(); ++taken)
    if (starts && taken + 1 == program.steps_size()) {
      start(taken, static_cast<uint32_t>(lane.getInt()));
      started[op] = taken;
    } else {
      compute(taken);
    }
}

void Lanes::compute(int step) {
  if (lastDone > computeAwaited) {
    await(step, lastDone);
    computeAwaited = lastDone;
  }
  lastComputed = step;
}

void Lanes::start(int step, uint32_t lane) {
  program.mutable_steps(step)->set_lane(lane);
  if (lastComputed > communicationAwaited) {
    await(step, lastComputed);
    communicationAwaited = lastComputed;
  }
}

void Lanes::await(int step, int earlier) {
  plan::Step &raiser = *program.mutable_steps(earlier);
  if (raiser.signal() == 0) {
    program.set_signals(program.signals() + 1);
    raiser.set_signal(program.signals());
  }
  program.mutable_steps(step)->add_waits(raiser.signal());
}

} // namespace moe::codegen
