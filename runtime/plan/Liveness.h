//===- Liveness.h - Which bytes of the step arenas are dead when? -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_LIVENESS_H
#define MOEC_RUNTIME_PLAN_LIVENESS_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <vector>

namespace moe {

/// Bytes [begin, end) of an arena.
struct ByteRange {
  uint32_t arena = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
  bool operator==(const ByteRange &) const = default;
};

/// For each step of a program in plan order: the bytes of STEP arenas that the step accesses and that nobody may read
/// afterwards before they are written again, sorted. Scratch is always among them; a program's outputs never are.
/// Derived from the declared accesses alone.
std::vector<std::vector<ByteRange>> deadAfterSteps(const plan::Plan &plan, const plan::Program &program);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_LIVENESS_H
