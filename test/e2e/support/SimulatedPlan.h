//===- SimulatedPlan.h - Plans on the simulated device, for programs that change them -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_E2E_SUPPORT_SIMULATEDPLAN_H
#define MOEC_TEST_E2E_SUPPORT_SIMULATEDPLAN_H

#include "runtime/core/Backend.h"

#include <memory>

namespace moe::test {

/// Ends the program with the message of an error.
void require(const Status &status);

/// A device that is ready to run the programs of `file`, which must outlive it, with the same parameters, moments and
/// inputs each time: small positive numbers, tokens below eight.
std::unique_ptr<Device> start(const PlanFile &file);

} // namespace moe::test

#endif // MOEC_TEST_E2E_SUPPORT_SIMULATEDPLAN_H
