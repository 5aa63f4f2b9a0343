//===- Steps.h - Steps of a plan, ready to run --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_STEPS_H
#define MOEC_RUNTIME_CPU_STEPS_H

#include "runtime/abi/KernelAbi.h"
#include "runtime/comm/Communicator.h"
#include "runtime/core/Diagnostic.h"
#include "runtime/cpu/ThreadPool.h"
#include "runtime/cpu/kernels/Isa.h"
#include "runtime/plan/plan.pb.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moe::cpu {

/// The work of one step with everything resolved. Running it allocates nothing of ours and looks nothing up.
class StepRunner {
public:
  virtual ~StepRunner() = default;
  /// The caller holds a `ThreadCount` of the pool's threads. An error says what, not where.
  virtual Status run() = 0;
};

/// What steps are made from. Outlives them.
struct StepContext {
  ThreadPool pool{1};
  Isa isa = Isa::Baseline;
  std::vector<std::byte *> buffers;     ///< address of each buffer of the plan
  std::vector<MoeKernelFn> kernels;     ///< each kernel of the plan
  std::vector<int64_t> axisIndex;       ///< this rank's coordinate on each mesh axis
  const plan::Plan *plan = nullptr;     ///< whose mesh it is; may be null if no step is work between ranks
  Communicator *communicator = nullptr; ///< null: no step is a collective

  std::byte *address(const plan::Slice &slice) const { return buffers[slice.buffer()] + slice.offset(); }
  std::byte *address(const plan::Step &step, int operand) const { return address(step.operands(operand).slice()); }
};

/// Makes a step ready. It has passed `checkPlanStructure`; `place` says where it stands, for errors of waiting. Errors:
/// a type or a shape that this backend can not compute, a library that wants more scratch than the plan gives it.
Expected<std::unique_ptr<StepRunner>> createStep(const plan::Step &step, const StepContext &context,
                                                 const std::string &place = {});

/// The kinds of work that have a file of their own.
Expected<std::unique_ptr<StepRunner>> createAttentionStep(const plan::Step &step, const StepContext &context);
Expected<std::unique_ptr<StepRunner>> createRouteStep(const plan::Step &step, const StepContext &context);
Expected<std::unique_ptr<StepRunner>> createGroupedGemmStep(const plan::Step &step, const StepContext &context);
Expected<std::unique_ptr<StepRunner>> createScatterAddStep(const plan::Step &step, const StepContext &context);
Expected<std::unique_ptr<StepRunner>> createCollectiveStep(const plan::Step &step, const StepContext &context,
                                                           const std::string &place);
Expected<std::unique_ptr<StepRunner>> createAxisSliceStep(const plan::Step &step, const StepContext &context);
Expected<std::unique_ptr<StepRunner>> createAsPartialStep(const plan::Step &step, const StepContext &context);

/// Error unless the plan gives a library or kernel the scratch it needs.
Status requireScratch(uint64_t needed, uint64_t given, const char *work);

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_STEPS_H
