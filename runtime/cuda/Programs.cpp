//===- Programs.cpp - Programs as work for streams ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Programs.h"

#include "runtime/cuda/Errors.h"

#include <algorithm>
#include <utility>

namespace moe::cuda {
namespace {

constexpr int kPoisonByte = 0xFF;

/// Forgets the signals that are raised by the order of a lane alone. Errors: see ReadyProgram::create.
Status simplifySignals(std::vector<LaneStep> &steps, uint32_t signals) {
  std::vector<int64_t> laneOf(size_t{signals} + 1, -1);
  std::vector<char> awaited(size_t{signals} + 1);
  for (LaneStep &step : steps) {
    for (uint32_t signal : step.waits)
      if (laneOf[signal] < 0)
        return error("a step waits for a signal that nothing before it raises", step.name,
                     "signal " + std::to_string(signal), {}, ExitCode::Internal);
    std::erase_if(step.waits, [&](uint32_t signal) { return laneOf[signal] == step.lane; });
    for (uint32_t signal : step.waits)
      awaited[signal] = 1;
    if (step.signal > 0)
      laneOf[step.signal] = step.lane;
  }
  for (LaneStep &step : steps)
    if (!awaited[step.signal])
      step.signal = 0;
  return {};
}

} // namespace

void DestroyCuda::operator()(cudaStream_t stream) const {
  static_cast<void>(cudaStreamDestroy(stream));
}
void DestroyCuda::operator()(cudaEvent_t event) const {
  static_cast<void>(cudaEventDestroy(event));
}
void DestroyCuda::operator()(cudaGraph_t graph) const {
  static_cast<void>(cudaGraphDestroy(graph));
}
void DestroyCuda::operator()(cudaGraphExec_t executable) const {
  static_cast<void>(cudaGraphExecDestroy(executable));
}

Expected<Stream> createStream() {
  cudaStream_t stream = nullptr;
  if (Status status = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream"); !status)
    return tl::unexpected(std::move(status.error()));
  return Stream(stream);
}

Expected<Event> createEvent(bool timed) {
  cudaEvent_t event = nullptr;
  unsigned int flags = timed ? cudaEventDefault : cudaEventDisableTiming;
  if (Status status = check(cudaEventCreateWithFlags(&event, flags), "create an event"); !status)
    return tl::unexpected(std::move(status.error()));
  return Event(event);
}

Status enqueuePoison(const DeviceBytes &bytes, cudaStream_t stream) {
  return check(cudaMemsetAsync(bytes.begin, kPoisonByte, bytes.count, stream), "poison dead memory");
}

Expected<ReadyProgram> ReadyProgram::create(std::vector<LaneStep> steps, uint32_t signals,
                                            std::span<const cudaStream_t> lanes, bool profile) {
  ReadyProgram program;
  if (Status status = simplifySignals(steps, signals); !status)
    return tl::unexpected(std::move(status.error()));
  uint32_t used = 1;
  for (const LaneStep &step : steps)
    used = std::max(used, step.lane + 1);
  program.lanes.assign(lanes.begin(), lanes.begin() + used);

  Status failure;
  auto make = [&](Event &event, bool timed) {
    auto made = createEvent(timed);
    if (made)
      event = std::move(*made);
    else
      failure = tl::unexpected(std::move(made.error()));
  };
  program.signals.resize(size_t{signals} + 1);
  for (const LaneStep &step : steps)
    if (step.signal > 0)
      make(program.signals[step.signal], false);
  program.ends.resize(used - 1);
  for (Event &event : program.ends)
    make(event, false);
  if (used > 1)
    make(program.begin, false);
  program.ticks.resize(profile ? steps.size() + 1 : 0);
  for (Event &event : program.ticks)
    make(event, true);
  if (!failure)
    return tl::unexpected(std::move(failure.error()));
  program.times.resize(profile ? steps.size() : 0);
  program.steps = std::move(steps);
  return program;
}

ReadyProgram::Enqueued ReadyProgram::enqueueStep(size_t index, cudaStream_t stream) const {
  const LaneStep &step = steps[index];
  if (step.mark)
    if (Status status =
            check(cudaMemcpyAsync(step.progress, step.mark, sizeof(int32_t), cudaMemcpyDeviceToHost, stream),
                  "tell the host of progress");
        !status)
      return tl::unexpected(Failure{index, std::move(status.error())});
  moe_sim_begin_step(step.name, step.accesses.data(), step.accesses.size());
  Status status = step.work->enqueue(stream);
  moe_sim_end_step();
  for (const DeviceBytes &bytes : step.dead)
    if (status)
      status = enqueuePoison(bytes, stream);
  if (!status)
    return tl::unexpected(Failure{index, std::move(status.error())});
  return {};
}

ReadyProgram::Enqueued ReadyProgram::enqueue() const {
  Status status;
  auto record = [&](const Event &event, cudaStream_t stream) {
    if (status)
      status = check(cudaEventRecord(event.get(), stream), "record an event");
  };
  auto wait = [&](cudaStream_t stream, const Event &event) {
    if (status)
      status = check(cudaStreamWaitEvent(stream, event.get(), 0), "wait for an event");
  };
  if (lanes.size() > 1)
    record(begin, lanes[0]);
  for (size_t lane = 1; lane < lanes.size(); ++lane)
    wait(lanes[lane], begin);
  for (size_t i = 0; i < steps.size(); ++i) {
    const LaneStep &step = steps[i];
    cudaStream_t stream = lanes[step.lane];
    for (uint32_t signal : step.waits)
      wait(stream, signals[signal]);
    if (!status)
      return tl::unexpected(Failure{i, std::move(status.error())});
    if (Enqueued enqueued = enqueueStep(i, stream); !enqueued)
      return enqueued;
    if (step.signal > 0)
      record(signals[step.signal], stream);
  }
  for (size_t lane = 1; lane < lanes.size(); ++lane) {
    record(ends[lane - 1], lanes[lane]);
    wait(lanes[0], ends[lane - 1]);
  }
  if (!status)
    return tl::unexpected(Failure{steps.empty() ? 0 : steps.size() - 1, std::move(status.error())});
  return {};
}

ReadyProgram::Enqueued ReadyProgram::enqueueMeasured() const {
  for (size_t i = 0; i <= steps.size(); ++i) {
    if (Status status = check(cudaEventRecord(ticks[i].get(), lanes[0]), "record an event"); !status)
      return tl::unexpected(Failure{i, std::move(status.error())});
    if (i < steps.size())
      if (Enqueued enqueued = enqueueStep(i, lanes[0]); !enqueued)
        return enqueued;
  }
  return {};
}

Status ReadyProgram::readTimes() {
  for (size_t i = 0; i < times.size(); ++i) {
    float milliseconds = 0;
    if (Status status =
            check(cudaEventElapsedTime(&milliseconds, ticks[i].get(), ticks[i + 1].get()), "measure a step");
        !status)
      return status;
    times[i] = milliseconds * 1e-3;
  }
  return {};
}

} // namespace moe::cuda
