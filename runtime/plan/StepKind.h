//===- StepKind.h - Names of the kinds of steps -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_STEPKIND_H
#define MOEC_RUNTIME_PLAN_STEPKIND_H

#include "runtime/plan/plan.pb.h"

namespace moe {

/// What the step does, for reports and profiles: "kernel", "gemm", "attention", "attention_backward", …; "none" if it
/// says nothing.
const char *stepKind(const plan::Step &step);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_STEPKIND_H
