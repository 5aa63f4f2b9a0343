//===- Report.h - What a plan is, for people and for scripts ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_REPORT_H
#define MOEC_TOOLS_MOEC_REPORT_H

#include "runtime/plan/plan.pb.h"

#include <string>

namespace moe::tools {

/// "1.25 GiB"
std::string bytesText(double bytes);

/// Certificate, largest buffers at the peak, steps and kernels per program. `path` names the plan.
std::string planReport(const plan::Plan &plan, const std::string &path);
/// The same as one JSON object on one line.
std::string planReportJson(const plan::Plan &plan);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_REPORT_H
