//===- Streams.h - Streams, events, captures and graphs of the simulated device -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_STREAMS_H
#define MOEC_TEST_GPU_SIM_STREAMS_H

#include "test/gpu/sim/StepRun.h"

#include <chrono>
#include <cuda_runtime.h>
#include <memory>
#include <vector>

namespace moe::sim {

/// A piece of work in a graph, after others.
struct GraphNode {
  Task task;
  std::shared_ptr<const Step> step; ///< null: part of none
  std::vector<size_t> after;
};

struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool invalid = false;
  std::vector<cudaStream_t> joined; ///< besides the origin
  std::vector<GraphNode> nodes;
};

/// Runs a task, or adds it to the graph that the stream is captured into.
cudaError_t enqueue(cudaStream_t stream, Task task);
/// The step that work belongs to which is enqueued now; null outside of steps.
std::shared_ptr<const Step> currentStep();
/// From a task: it will never end, and nothing that is enqueued later begins, until `comeUnstuck`: streams are one
/// after the other here.
void getStuck();
bool isStuck();
void comeUnstuck();
/// Whether the stream is being captured, validly or not.
bool isCaptured(cudaStream_t stream);
/// Refuses a call in a captured stream: invalidates the capture and returns cudaErrorStreamCaptureUnsupported.
cudaError_t invalidate(cudaStream_t stream, const std::string &why);

/// Runs a graph in its two extreme orders, or once if it is a chain. Returns what went wrong.
std::string runGraph(const std::vector<GraphNode> &nodes);

} // namespace moe::sim

struct CUstream_st {
  std::shared_ptr<moe::sim::Capture> capture;
  std::vector<size_t> last; ///< nodes that the next one comes after
};

struct CUevent_st {
  bool timed = true;
  std::shared_ptr<moe::sim::Capture> capture;
  std::vector<size_t> last;
  std::chrono::steady_clock::time_point time;
};

struct CUgraph_st {
  std::vector<moe::sim::GraphNode> nodes;
};

struct CUgraphExec_st {
  std::vector<moe::sim::GraphNode> nodes;
};

#endif // MOEC_TEST_GPU_SIM_STREAMS_H
