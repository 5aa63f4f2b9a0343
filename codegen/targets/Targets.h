//===- Targets.h - The targets that --target names ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_TARGETS_TARGETS_H
#define MOEC_CODEGEN_TARGETS_TARGETS_H

#include "codegen/kernel/KernelTarget.h"

namespace moe::codegen {

/// All that `--target` takes, for messages: "cpu:native, …".
llvm::StringRef knownTargets();

/// The target that `text` names, as "cpu:native" or "cuda:sm_90". `threads` per rank count on a CPU only; 0: all cores
/// of this machine. Null, with a reason in `error`, if there is no such target.
std::unique_ptr<KernelTarget> createTarget(llvm::StringRef text, int64_t threads, std::string &error);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_TARGETS_TARGETS_H
