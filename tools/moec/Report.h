//===- Report.h - What a plan is, for people and for scripts ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_REPORT_H
#define MOEC_TOOLS_MOEC_REPORT_H

#include "runtime/plan/plan.pb.h"

#include <optional>
#include <string>

namespace moe::tools {

/// "1.25 GiB"
std::string bytesText(double bytes);

/// What the backward reads of what the forward computes, in bytes, with and without `--recompute`.
struct KeptBytes {
  std::string policy;
  uint64_t with = 0, without = 0;
};

/// Certificate, largest buffers at the peak, steps and kernels per program. `path` names the plan.
/// `kept`: what the compiler knows of the saving, if the micro-step computes values again; not in the plan.
std::string planReport(const plan::Plan &plan, const std::string &path,
                       const std::optional<KeptBytes> &kept = std::nullopt);
/// The same as one JSON object on one line.
std::string planReportJson(const plan::Plan &plan, const std::optional<KeptBytes> &kept = std::nullopt);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_REPORT_H
