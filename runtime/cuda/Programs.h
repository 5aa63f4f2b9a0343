//===- Programs.h - Programs as work for streams ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_PROGRAMS_H
#define MOEC_RUNTIME_CUDA_PROGRAMS_H

#include "runtime/cuda/Steps.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moe::cuda {

struct DestroyCuda {
  void operator()(cudaStream_t stream) const;
  void operator()(cudaEvent_t event) const;
  void operator()(cudaGraph_t graph) const;
  void operator()(cudaGraphExec_t executable) const;
};
using Stream = std::unique_ptr<struct CUstream_st, DestroyCuda>;
using Event = std::unique_ptr<struct CUevent_st, DestroyCuda>;
using Graph = std::unique_ptr<struct CUgraph_st, DestroyCuda>;
using GraphExecutable = std::unique_ptr<struct CUgraphExec_st, DestroyCuda>;

Expected<Stream> createStream();
Expected<Event> createEvent(bool timed);

/// Bytes of device memory.
struct DeviceBytes {
  std::byte *begin = nullptr;
  size_t count = 0;
};

/// One step in its lane.
struct LaneStep {
  std::unique_ptr<StepLaunch> work;
  const char *name = "";
  std::vector<MoeSimAccess> accesses;
  uint32_t lane = 0;
  std::vector<uint32_t> waits; ///< signals of other lanes; those of its own are raised before by themselves
  uint32_t signal = 0;         ///< 0 unless another lane waits for it
  /// Says to the host that the step begins: a number of device memory that is copied to pinned memory; null: nobody
  /// asks.
  const std::byte *mark = nullptr;
  std::byte *progress = nullptr;
  std::vector<DeviceBytes> dead; ///< filled with poison afterwards; empty without poison
};

/// A program of which nothing is left to be looked up. Lanes are streams, signals events.
class ReadyProgram {
public:
  /// `lanes`: the streams, of which lane 0 is the one that everything begins and ends in. Errors: a wait for a signal
  /// that nothing before it raises.
  static Expected<ReadyProgram> create(std::vector<LaneStep> steps, uint32_t signals,
                                       std::span<const cudaStream_t> lanes, bool profile);

  /// Error: where it happened, as the index of the step, and what.
  struct Failure {
    size_t step = 0;
    Diagnostic problem;
  };
  using Enqueued = tl::expected<void, Failure>;

  /// Lanes overlap as far as the signals allow.
  Enqueued enqueue() const;

  /// One step after the other, measured, on lane 0. Afterwards, once that stream has been waited for, `seconds` has the
  /// times.
  Enqueued enqueueMeasured() const;
  Status readTimes();
  std::span<const double> seconds() const { return times; }

private:
  std::vector<LaneStep> steps;
  std::vector<cudaStream_t> lanes; ///< those that the program uses, and lane 0
  std::vector<Event> signals;      ///< by id; null if no lane waits for another's
  Event begin;                     ///< what the other lanes wait for
  std::vector<Event> ends;         ///< of lanes 1 and on
  std::vector<Event> ticks;        ///< before the first and after each step; empty unless profiled
  std::vector<double> times;

  Enqueued enqueueStep(size_t index, cudaStream_t stream) const;
};

/// Fills with bytes that are NaN in every floating-point type and -1 in every integer.
Status enqueuePoison(const DeviceBytes &bytes, cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_PROGRAMS_H
