//===- FusedPlan.h - How a fused region runs, decided without generating code --------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_FUSEDPLAN_H
#define MOEC_CODEGEN_KERNEL_FUSEDPLAN_H

#include "ir/Ops.h"

namespace moe::codegen {

/// One pointer of a kernel call.
struct PlannedOperand {
  enum class Kind {
    Input,  ///< operand `index` of the `moe.fused`, read
    Output, ///< result `index`, every byte written and none read
    Scratch ///< `FusedPlan::scratchBytes` bytes, shared by the calls of the plan: written by the first, read by the
            ///< second
  };
  Kind kind;
  unsigned index = 0;

  bool operator==(const PlannedOperand &) const = default;
};

/// One kernel call. On a CPU any cut of [0, extent) into parts, run in any order or at once, writes the same bits; on a
/// GPU any order of the blocks and threads of the launch does.
struct PlannedCall {
  /// In the order of `MoeKernelArgs.pointers`. Inputs that the call does not read are absent.
  llvm::SmallVector<PlannedOperand> operands;
  int64_t extent = 1;
  /// Least part of the extent worth giving to a thread.
  int64_t grain = 1;
  /// GPU only: blocks, threads per block (a multiple of 32), bytes of dynamic shared memory per block.
  unsigned blocks = 0, threads = 0, sharedBytes = 0;
};

/// Output `output` may lie in the very bytes of input `input`: the input is read at the element that is written, before
/// it is written. An input may be given to one output only.
struct InPlacePair {
  unsigned output, input;
};

struct FusedPlan {
  std::string emitter;
  /// One call, or two where partial results of the first are combined by the second.
  llvm::SmallVector<PlannedCall, 2> calls;
  /// What each call passes behind its pointers: the keys of the random numbers (RandomKeys.h).
  llvm::SmallVector<int64_t> numbers;
  uint64_t scratchBytes = 0;
  llvm::SmallVector<InPlacePair> inPlace;
  /// Operations as often as the kernels perform them, and bytes of inputs and outputs once each.
  ir::Cost cost;
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_FUSEDPLAN_H
