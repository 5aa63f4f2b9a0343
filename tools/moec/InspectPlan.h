//===- InspectPlan.h - What is in a plan --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_INSPECTPLAN_H
#define MOEC_TOOLS_MOEC_INSPECTPLAN_H

#include "runtime/plan/PlanFile.h"

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moe::tools {

/// Reads a plan whose numbers can be relied on: file and records have been checked.
Expected<PlanFile> readPlan(const std::string &path);

/// The program of that name; a usage error that lists the programs if there is none. `flag` is where the name came
/// from.
Expected<const plan::Program *> findProgram(const plan::Plan &plan, const std::string &name, const std::string &flag);

/// Everything but the steps: `inputs`, `outputs`, `parameters`, `state`, `metrics`, `kernels`, … and under `report`
/// what `moec compile --json` prints.
nlohmann::ordered_json describePlan(const plan::Plan &plan, const std::string &path);
/// The same for people.
std::string planText(const plan::Plan &plan, const std::string &path);

/// Every step: index, name, kind, lane, waits, signal, FLOPs and operands (buffer, offset within it, bytes, access,
/// dtype, shape); kernels with their symbol.
nlohmann::ordered_json describeSteps(const plan::Plan &plan, const plan::Program &program);
/// The same for people: a line per step, a line per operand.
std::string stepsText(const plan::Plan &plan, const plan::Program &program);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_INSPECTPLAN_H
