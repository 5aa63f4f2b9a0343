//===- Steps.h - Steps of a plan, ready to be enqueued ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_STEPS_H
#define MOEC_RUNTIME_CUDA_STEPS_H

#include "runtime/core/Diagnostic.h"
#include "runtime/cuda/Gemm.h"
#include "runtime/cuda/Simulated.h"
#include "runtime/plan/plan.pb.h"

#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>
#include <memory>
#include <vector>

namespace moe::cuda {

class DeviceRanks;

/// The work of one step with everything resolved. Enqueuing it allocates nothing, looks nothing up and waits for
/// nothing, so that a stream that does it can be captured.
class StepLaunch {
public:
  virtual ~StepLaunch() = default;
  /// An error says what, not where.
  virtual Status enqueue(cudaStream_t stream) = 0;
};

/// What steps are made from. Outlives them.
struct StepContext {
  std::vector<std::byte *> buffers;  ///< device address of each buffer of the plan
  std::vector<cudaKernel_t> kernels; ///< each kernel of the plan
  GemmLibrary *library = nullptr;
  const plan::Plan *plan = nullptr;
  std::vector<int64_t> axisIndex; ///< this rank's coordinate on each axis of the mesh
  DeviceRanks *ranks = nullptr;   ///< null if the plan is for one rank

  std::byte *address(const plan::Slice &slice) const { return buffers[slice.buffer()] + slice.offset(); }
  std::byte *address(const plan::Step &step, int operand) const { return address(step.operands(operand).slice()); }
};

/// Error: a type or a shape that this backend can not compute. The step has passed `checkPlanStructure`.
Status checkStep(const plan::Step &step);

/// Makes a step ready that has passed `checkStep`. `outside`: device address of a counter of the step, which it raises
/// when an index is out of range; 0 at first. Errors: the library has no algorithm.
Expected<std::unique_ptr<StepLaunch>> createStep(const plan::Step &step, const StepContext &context, int32_t *outside);

/// Whether a step may raise its counter.
bool hasIndex(const plan::Step &step);

/// The kinds of work that have a file of their own.
Status checkMoeStep(const plan::Step &step);
Expected<std::unique_ptr<StepLaunch>> createCommStep(const plan::Step &step, const StepContext &context);
std::unique_ptr<StepLaunch> createAttentionStep(const plan::Step &step, const StepContext &context);
std::unique_ptr<StepLaunch> createRouteStep(const plan::Step &step, const StepContext &context);
std::unique_ptr<StepLaunch> createGroupedGemmStep(const plan::Step &step, const StepContext &context, int32_t *outside);
std::unique_ptr<StepLaunch> createScatterAddStep(const plan::Step &step, const StepContext &context, int32_t *outside);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_STEPS_H
