//===- Describe.h - What this machine has for the CPU backend -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_DESCRIBE_H
#define MOEC_RUNTIME_CPU_DESCRIBE_H

#include "runtime/core/Device.h"

namespace moe::cpu {

/// Instruction sets, processors that the process may use, the library of matrix products. See Device::describe.
std::vector<DeviceFact> describeCpu();

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_DESCRIBE_H
