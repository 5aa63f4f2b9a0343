//===- Communication.h - What a plan's ranks send to each other ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_COMMUNICATION_H
#define MOEC_TOOLS_MOEC_COMMUNICATION_H

#include "runtime/plan/plan.pb.h"

#include <nlohmann/json.hpp>
#include <string>

namespace moe::tools {

/// The axes that a step's collective runs over, "data+expert"; empty for other steps.
std::string axesText(const plan::Plan &plan, const plan::Step &step);

/// Bytes that a rank sends in a step; 0 for other steps than collectives.
uint64_t sentBytes(const plan::Plan &plan, const plan::Step &step);

/// The collectives of a program that have axes and kind in common, in the order of the first of each:
/// [{axes, kind, collectives, messages, bytes_sent, exposed: [names of steps], exposed_bytes, seconds,
/// exposed_seconds}], numbers of the rank that sends most. `exposed` are those beside which nothing runs; the seconds
/// are estimates for the target (runtime/plan/Exposure.h): of all, and of the part of them that no computation covers.
nlohmann::ordered_json describeCommunication(const plan::Plan &plan, const plan::Program &program);

/// The same of all programs as a table; empty for one rank.
std::string communicationText(const plan::Plan &plan);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_COMMUNICATION_H
