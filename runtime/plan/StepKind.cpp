//===- StepKind.cpp -----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/StepKind.h"

namespace moe {

static const char *collectiveKind(const plan::Collective &collective) {
  switch (collective.kind()) {
  case plan::Collective::ALL_REDUCE:
    return "all_reduce";
  case plan::Collective::ALL_GATHER:
    return "all_gather";
  case plan::Collective::REDUCE_SCATTER:
    return "reduce_scatter";
  case plan::Collective::ALL_TO_ALL:
    return "all_to_all";
  default:
    return "collective";
  }
}

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
  case plan::Step::kCollective:
    return collectiveKind(step.collective());
  case plan::Step::kAxisSlice:
    return step.axis_slice().pad() ? "pad_slice" : "axis_slice";
  case plan::Step::kAsPartial:
    return "as_partial";
  case plan::Step::WORK_NOT_SET:
    break;
  }
  return "none";
}

} // namespace moe
