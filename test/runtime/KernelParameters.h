//===- KernelParameters.h - Kernels of plans written by hand
//--------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_KERNELPARAMETERS_H
#define MOEC_TEST_RUNTIME_KERNELPARAMETERS_H

#include "runtime/plan/plan.pb.h"

#include <set>

namespace moe::test {

/// Gives each call a kernel record of its own (the first call keeps the one it names) whose parameters are what the
/// step declares: one piece of code written for a test serves calls with different operands. Calls that name no kernel
/// or no operand of theirs are left alone.
inline void declareKernelParameters(plan::Plan &plan) {
  std::set<uint32_t> taken;
  for (plan::Program &program : *plan.mutable_programs())
    for (plan::Step &step : *program.mutable_steps()) {
      if (!step.has_kernel() || step.kernel().kernel() >= static_cast<uint32_t>(plan.kernels_size()))
        continue;
      plan::Kernel kernel = plan.kernels(static_cast<int>(step.kernel().kernel()));
      kernel.clear_parameters();
      kernel.set_numbers(static_cast<uint32_t>(step.kernel().numbers_size()));
      auto declare = [&](const plan::Operand &operand) {
        plan::KernelParameter &parameter = *kernel.add_parameters();
        parameter.set_access(operand.access());
        parameter.set_bytes(operand.slice().bytes());
      };
      for (uint32_t pointer : step.kernel().pointers())
        if (pointer < static_cast<uint32_t>(step.operands_size()))
          declare(step.operands(static_cast<int>(pointer)));
      if (step.kernel().pointers_size() == 0)
        for (const plan::Operand &operand : step.operands())
          declare(operand);
      if (!taken.insert(step.kernel().kernel()).second) {
        step.mutable_kernel()->set_kernel(static_cast<uint32_t>(plan.kernels_size()));
        plan.add_kernels();
        taken.insert(step.kernel().kernel());
      }
      *plan.mutable_kernels(static_cast<int>(step.kernel().kernel())) = kernel;
    }
}

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_KERNELPARAMETERS_H
