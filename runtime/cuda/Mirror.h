//===- Mirror.h - What the host reads after each run, brought along by the run ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_MIRROR_H
#define MOEC_RUNTIME_CUDA_MIRROR_H

#include "runtime/cuda/Memory.h"
#include "runtime/plan/plan.pb.h"

#include <cuda_runtime.h>
#include <span>
#include <string>
#include <vector>

namespace moe::cuda {

/// Pinned copies of the metrics of each program, taken by the launch that computes them: reading a metric then asks the
/// device nothing.
class Mirror {
public:
  /// `buffers`: device address of each buffer of the plan.
  static Expected<Mirror> create(const plan::Plan &plan, std::span<std::byte *const> buffers);

  /// Enqueues the copies of a program's metrics.
  Status enqueue(const std::string &program, cudaStream_t stream) const;

  /// These programs have run to their end, and nothing else of what the device holds is known.
  void refreshed(std::span<const int> programs, const plan::Plan &plan);
  /// What the device holds may have changed otherwise.
  void forget();

  /// The copy of bytes of the device, null if there is none or it is not what the device holds.
  const std::byte *find(const std::byte *device, size_t bytes) const;

private:
  struct Range {
    std::string program;
    std::byte *device = nullptr;
    size_t bytes = 0, offset = 0; ///< in `memory`
    bool fresh = false;
  };
  std::vector<Range> ranges;
  PinnedMemory memory;
};

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_MIRROR_H
