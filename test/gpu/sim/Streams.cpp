//===- Streams.cpp - Streams, events and captures of the simulated device -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Streams.h"

#include "test/gpu/sim/State.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace moe::sim {
namespace {

/// Of a thread: ranks that are threads know nothing of each other's streams.
struct Current {
  std::vector<std::shared_ptr<Capture>> captures;
  std::shared_ptr<const Step> step; ///< that work belongs to; null outside of steps
  std::vector<Task> tasks;          ///< of the step, not captured, not yet run
  std::string failure;              ///< of work that has run; told when someone waits for it
  bool isStuck = false;             ///< work waits for other ranks forever, and what was enqueued later for it
};

Current &current() {
  thread_local Current instance;
  return instance;
}

/// Runs `work`, which returns what went wrong, unless it never gets its turn.
template <typename Work> void run(Work work) {
  if (current().isStuck)
    return;
  std::string failure = work();
  if (current().isStuck)
    return; // what it has left is no result
  if (current().failure.empty())
    current().failure = std::move(failure);
}

cudaError_t waitForAll() {
  if (current().isStuck)
    return fail(cudaErrorLaunchFailure, "the host waits for work that waits for other ranks forever");
  if (current().failure.empty())
    return cudaSuccess;
  return fail(cudaErrorLaunchFailure, std::exchange(current().failure, {}));
}

void addTo(std::vector<size_t> &set, const std::vector<size_t> &more) {
  set.insert(set.end(), more.begin(), more.end());
  std::ranges::sort(set);
  set.erase(std::unique(set.begin(), set.end()), set.end());
}

/// Whether the work of every stream of a capture comes before `last`.
bool isJoined(const Capture &capture, const std::vector<size_t> &last) {
  std::vector<char> seen(capture.nodes.size());
  std::vector<size_t> open = last;
  while (!open.empty()) {
    size_t node = open.back();
    open.pop_back();
    if (std::exchange(seen[node], 1))
      continue;
    open.insert(open.end(), capture.nodes[node].after.begin(), capture.nodes[node].after.end());
  }
  return std::ranges::all_of(seen, [](char c) { return c != 0; });
}

} // namespace

bool isStuck() {
  return current().isStuck;
}

void getStuck() {
  current().isStuck = true;
}

void comeUnstuck() {
  if (std::exchange(current().isStuck, false))
    current().failure = "work between ranks was aborted";
}

std::shared_ptr<const Step> currentStep() {
  return current().step;
}

bool isCaptured(cudaStream_t stream) {
  return stream && stream->capture;
}

cudaError_t invalidate(cudaStream_t stream, const std::string &why) {
  stream->capture->invalid = true;
  return fail(cudaErrorStreamCaptureUnsupported, why + " while the stream is captured");
}

cudaError_t refuseInCapture(const char *call) {
  bool refused = false;
  for (const std::shared_ptr<Capture> &capture : current().captures)
    if (capture->mode != cudaStreamCaptureModeRelaxed)
      refused = capture->invalid = true;
  return refused ? fail(cudaErrorStreamCaptureUnsupported, std::string(call) + " while a stream is captured")
                 : cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, Task task) {
  if (!isCaptured(stream)) {
    if (current().step) {
      current().tasks.push_back(std::move(task));
    } else {
      run([&] {
        const Task *tasks[] = {&task};
        return runStep(nullptr, tasks);
      });
    }
    return cudaSuccess;
  }
  Capture &capture = *stream->capture;
  if (capture.invalid)
    return fail(cudaErrorStreamCaptureInvalidated, task.name + ": the capture has been invalidated before");
  capture.nodes.push_back({std::move(task), current().step, stream->last});
  stream->last = {capture.nodes.size() - 1};
  return cudaSuccess;
}

} // namespace moe::sim

using namespace moe::sim;

extern "C" {

void moe_sim_begin_step(const char *name, const MoeSimAccess *accesses, size_t count) {
  current().step = std::make_shared<const Step>(Step{name, {accesses, accesses + count}});
}

void moe_sim_end_step(void) {
  std::shared_ptr<const Step> step = std::exchange(current().step, nullptr);
  std::vector<Task> tasks = std::exchange(current().tasks, {});
  std::vector<const Task *> pointers;
  pointers.reserve(tasks.size());
  for (const Task &task : tasks)
    pointers.push_back(&task);
  if (!pointers.empty())
    run([&] { return runStep(step.get(), pointers); });
}

cudaError_t cudaDeviceSynchronize(void) {
  record("cudaDeviceSynchronize");
  if (cudaError_t code = refuseInCapture("cudaDeviceSynchronize"))
    return code;
  return waitForAll();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int /*flags*/) {
  record("cudaStreamCreateWithFlags");
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  record("cudaStreamDestroy");
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  record("cudaStreamSynchronize");
  return isCaptured(stream) ? invalidate(stream, "cudaStreamSynchronize") : waitForAll();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  record("cudaStreamQuery");
  if (isCaptured(stream))
    return invalidate(stream, "cudaStreamQuery");
  return current().isStuck ? cudaErrorNotReady : waitForAll();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags) {
  record("cudaEventCreateWithFlags");
  *event = new CUevent_st{.timed = (flags & cudaEventDisableTiming) == 0, .capture = {}, .last = {}, .time = {}};
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  record("cudaEventDestroy");
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  record("cudaEventRecord");
  if (isCaptured(stream) && stream->capture->invalid)
    return fail(cudaErrorStreamCaptureInvalidated, "cudaEventRecord: the capture has been invalidated before");
  event->capture = isCaptured(stream) ? stream->capture : nullptr;
  event->last = event->capture ? stream->last : std::vector<size_t>();
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int /*flags*/) {
  record("cudaStreamWaitEvent");
  if (!event->capture) {
    if (!isCaptured(stream))
      return cudaSuccess;
    stream->capture->invalid = true;
    return fail(cudaErrorStreamCaptureIsolation, "a captured stream waits for an event that was recorded outside");
  }
  if (isCaptured(stream) && stream->capture != event->capture)
    return fail(cudaErrorStreamCaptureIsolation, "a captured stream waits for an event of another capture");
  if (!isCaptured(stream)) {
    stream->capture = event->capture;
    stream->capture->joined.push_back(stream);
    stream->last.clear();
  }
  addTo(stream->last, event->last);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  record("cudaEventSynchronize");
  if (event->capture)
    return fail(cudaErrorCapturedEvent, "cudaEventSynchronize of an event that was captured");
  return waitForAll();
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  record("cudaEventElapsedTime");
  if (start->capture || end->capture)
    return fail(cudaErrorCapturedEvent, "cudaEventElapsedTime of an event that was captured");
  if (!start->timed || !end->timed)
    return fail(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime of an event without timing");
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  record("cudaStreamBeginCapture");
  if (!stream)
    return fail(cudaErrorStreamCaptureUnsupported, "the default stream can not be captured");
  if (isCaptured(stream))
    return fail(cudaErrorInvalidValue, "cudaStreamBeginCapture: the stream is captured already");
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->last.clear();
  current().captures.push_back(stream->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  record("cudaStreamEndCapture");
  *graph = nullptr;
  if (!isCaptured(stream) || stream->capture->origin != stream)
    return fail(cudaErrorStreamCaptureUnmatched, "cudaStreamEndCapture: the capture did not begin in this stream");
  std::shared_ptr<Capture> capture = std::exchange(stream->capture, nullptr);
  std::erase(current().captures, capture);
  std::vector<size_t> last = std::exchange(stream->last, {});
  for (cudaStream_t other : capture->joined)
    other->capture = nullptr;
  if (capture->invalid)
    return fail(cudaErrorStreamCaptureInvalidated, "the capture has been invalidated");
  if (!isJoined(*capture, last))
    return fail(cudaErrorStreamCaptureUnjoined, "a stream of the capture was not joined to the first one");
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long /*flags*/) {
  record("cudaGraphInstantiate");
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  record("cudaGraphDestroy");
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  record("cudaGraphExecDestroy");
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t /*executable*/, cudaStream_t /*stream*/) {
  record("cudaGraphUpload");
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  record("cudaGraphLaunch");
  if (isCaptured(stream))
    return invalidate(stream, "cudaGraphLaunch");
  run([&] { return runGraph(executable->nodes); });
  return cudaSuccess;
}

} // extern "C"
