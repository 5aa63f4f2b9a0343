//===- StepKind.cpp -----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/StepKind.h"

namespace moe {

const char *stepKind(const plan::Step &step) {
  switch (step.work_case()) {
  case plan::Step::kKernel:
    return "kernel";
  case plan::Step::kGemm:
    return "gemm";
  case plan::Step::kAttention:
    return step.attention().backward() ? "attention_backward" : "attention";
  case plan::Step::kRoute:
    return step.route().backward() ? "route_backward" : "route";
  case plan::Step::kGroupedGemm:
    return step.grouped_gemm().weight_grad() ? "grouped_gemm_weight_grad" : "grouped_gemm";
  case plan::Step::kScatterAdd:
    return "scatter_add";
  case plan::Step::kFill:
    return "fill";
  case plan::Step::kCopy:
    return "copy";
  case plan::Step::WORK_NOT_SET:
    break;
  }
  return "none";
}

} // namespace moe
