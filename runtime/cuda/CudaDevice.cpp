//===- CudaDevice.cpp - The CUDA backend --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/CudaDevice.h"

#include "runtime/cuda/Errors.h"
#include "runtime/cuda/Memory.h"
#include "runtime/cuda/Mirror.h"
#include "runtime/cuda/Probe.h"
#include "runtime/cuda/Programs.h"
#include "runtime/cuda/Ranks.h"
#include "runtime/cuda/Simulated.h"
#include "runtime/plan/Liveness.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

namespace moe::cuda {
namespace {

/// Dynamic shared memory that a kernel may have without being allowed to.
constexpr uint32_t kOrdinarySharedBytes = 48 << 10;

struct Unload {
  void operator()(cudaLibrary_t library) const { static_cast<void>(cudaLibraryUnload(library)); }
};
using Library = std::unique_ptr<struct CUlib_st, Unload>;

/// Programs that run one after the other. They are enqueued as they are the first time, which loads all code, and from
/// the second time on launched as one graph.
struct Sequence {
  std::vector<int> programs;
  bool hasRun = false;
  GraphExecutable graph;
};

class CudaDevice final : public Device {
public:
  ~CudaDevice() override {
    if (main)
      static_cast<void>(cudaStreamSynchronize(main)); // memory that is still used must not be freed
  }

  std::vector<DeviceFact> describe() const override { return describeCuda(); }
  bool usesHostMemory() const override { return false; }
  Status prepare(const plan::Plan &plan, int localRank) override;
  Status initialize(const PlanFile &file, const DeviceOptions &options) override;
  Status run(int program) override { return launch({&program, 1}); }
  Status runSequence(std::span<const int> sequence, const std::function<void(int)> &starts) override;
  std::span<const double> stepSeconds(int program) const override { return programs[program].seconds(); }
  std::span<std::byte> bytes(const plan::Slice &slice) override;
  Status read(const plan::Slice &slice, std::span<std::byte> destination) const override;
  Status write(const plan::Slice &slice, std::span<const std::byte> source) override;

private:
  const plan::Plan *plan = nullptr;
  bool poison = false, profile = false;
  DeviceInfo info;
  std::vector<DeviceMemory> arenas;
  std::vector<PinnedMemory> staged; ///< by arena; null but for STAGING, whose contents each launch takes from here
  std::vector<Library> libraries;
  std::optional<GemmLibrary> products;
  StepContext context;
  Mirror metrics;

  /// One for each step that can be given an index out of range, all programs in order; how often it was.
  DeviceMemory outside;
  PinnedMemory outsideCopy;
  std::vector<std::pair<int, int>> indexedSteps; ///< program and step of each counter

  /// Of plans for several ranks: the number of the collective that the device has begun last, and the numbers that it
  /// copies there.
  std::unique_ptr<DeviceRanks> ranks;
  DeviceMemory numbers;
  PinnedMemory progress;
  std::vector<std::pair<int, int>> collectives; ///< program and step of each

  std::vector<Stream> lanes;
  cudaStream_t main = nullptr;
  std::vector<ReadyProgram> programs; // refers to all of the above
  std::vector<Sequence> sequences;

  Status prepareMemoryAndCode(const PlanFile &file, const std::filesystem::path &choices);
  Status allocate();
  Status loadKernels(const PlanFile &file);
  Status allowSharedMemory();
  Status createPrograms();
  Expected<LaneStep> createLaneStep(int program, int index, const std::vector<ByteRange> &dead);
  Status numberCollectives();
  DeviceRanks::Place place(std::span<const int> sequence) const;
  Status wait(std::span<const int> sequence);
  Diagnostic at(int program, size_t step, Diagnostic problem) const;

  bool readsStaging(const plan::Program &program) const;
  Sequence &find(std::span<const int> sequence);
  Status enqueue(std::span<const int> sequence, bool measured);
  Status capture(Sequence &sequence);
  Status launch(std::span<const int> sequence);
  Status checkIndexes() const;
};

Status CudaDevice::prepare(const plan::Plan &plan, int localRank) {
  auto device = probeDevice(localRank);
  if (!device)
    return tl::unexpected(std::move(device.error()));
  info = *device;
  if (Status status = checkTarget(plan, info); !status)
    return status;
  for (const plan::Program &program : plan.programs())
    for (const plan::Step &step : program.steps())
      if (Status status = checkStep(step); !status) {
        status.error().where = "program '" + program.name() + "', step '" + step.name() + "'";
        return status;
      }
  return checkMemory(plan, info);
}

Status CudaDevice::initialize(const PlanFile &file, const DeviceOptions &options) {
  plan = &file.plan;
  poison = options.poison;
  profile = options.profile;
  context.plan = plan;
  context.axisIndex = coordinatesOf(*plan, options.communicator ? options.communicator->rank() : 0);
  const bool isOneOfMany = options.communicator && options.communicator->size() > 1;
  if (isOneOfMany)
    if (Status distinct = DeviceRanks::checkDevices(*options.communicator, info.number); !distinct)
      return distinct;
  Status status = prepareMemoryAndCode(file, options.choices);
  // Ranks that others wait for say so if they can not go on.
  if (isOneOfMany) {
    auto connected = DeviceRanks::connect(*options.communicator, *plan, info.number, status);
    if (!connected)
      return tl::unexpected(std::move(connected.error()));
    ranks = std::move(*connected);
    context.ranks = ranks.get();
  }
  if (status)
    status = createPrograms();
  if (ranks)
    status = ranks->agree(status, products->digest());
  if (status && (!ranks || ranks->isFirst()))
    status = products->saveChoices();
  if (!status)
    return status;
  auto mirror = Mirror::create(*plan, context.buffers);
  if (!mirror)
    return tl::unexpected(std::move(mirror.error()));
  metrics = std::move(*mirror);
  // What has been cleared so far does not wait for the streams of the lanes, nor they for it.
  return check(cudaDeviceSynchronize(), "clear device memory");
}

Status CudaDevice::prepareMemoryAndCode(const PlanFile &file, const std::filesystem::path &choices) {
  if (Status status = allocate(); !status)
    return status;
  if (Status status = loadKernels(file); !status)
    return status;
  auto library = GemmLibrary::create(choices, info.name);
  if (!library)
    return tl::unexpected(std::move(library.error()));
  products.emplace(std::move(*library));
  context.library = &*products;
  return {};
}

Status CudaDevice::allocate() {
  for (const plan::Arena &arena : plan->arenas()) {
    auto memory = allocateDevice(arena.bytes());
    auto mirror = allocatePinned(arena.class_() == plan::Arena::STAGING ? arena.bytes() : 0);
    for (Diagnostic *problem : {memory ? nullptr : &memory.error(), mirror ? nullptr : &mirror.error()})
      if (problem) {
        problem->where = "arena '" + arena.name() + "', " + std::to_string(arena.bytes()) + " bytes";
        return tl::unexpected(std::move(*problem));
      }
    arenas.push_back(std::move(*memory));
    staged.push_back(std::move(*mirror));
  }
  for (const plan::Buffer &buffer : plan->buffers())
    context.buffers.push_back(arenas[buffer.arena()].get() + buffer.offset());
  return {};
}

Status CudaDevice::loadKernels(const PlanFile &file) {
  for (size_t i = 0; i < file.blobs.size(); ++i) {
    // PTX is text that ends with a zero, which a blob need not have.
    std::string text;
    const void *code = file.blobs[i].data();
    if (plan->images(static_cast<int>(i)).format() == "ptx") {
      text.assign(reinterpret_cast<const char *>(code), file.blobs[i].size());
      code = text.c_str();
    }
    cudaLibrary_t library = nullptr;
    if (Status status = check(cudaLibraryLoadData(&library, code, nullptr, nullptr, 0, nullptr, nullptr, 0),
                              "load the plan's kernels");
        !status) {
      status.error().where = "image " + std::to_string(i);
      status.error().remedy = "compile the model again with the moec of this release";
      return status;
    }
    libraries.emplace_back(library);
  }
  std::string missing;
  for (const plan::Kernel &kernel : plan->kernels()) {
    cudaKernel_t loaded = nullptr;
    if (cudaLibraryGetKernel(&loaded, libraries[kernel.image()].get(), kernel.symbol().c_str()) != cudaSuccess)
      missing += (missing.empty() ? "" : ", ") + kernel.symbol();
    else
      moe_sim_kernel_words(reinterpret_cast<const void *>(loaded),
                           static_cast<uint32_t>(kernel.parameters_size()) + kernel.numbers());
    context.kernels.push_back(loaded);
  }
  if (!missing.empty())
    return error("the plan names kernels that its code does not have", {}, missing,
                 "compile the model again with the moec of this release");
  return allowSharedMemory();
}

Status CudaDevice::allowSharedMemory() {
  std::vector<uint32_t> most(context.kernels.size());
  for (const plan::Program &program : plan->programs())
    for (const plan::Step &step : program.steps())
      if (step.has_kernel()) {
        uint32_t &bytes = most[step.kernel().kernel()];
        bytes = std::max(bytes, step.kernel().launch().shared_bytes());
      }
  for (size_t k = 0; k < most.size(); ++k)
    if (most[k] > kOrdinarySharedBytes)
      if (Status status =
              check(cudaKernelSetAttributeForDevice(context.kernels[k], cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(most[k]), info.number),
                    "give a kernel its shared memory");
          !status) {
        status.error().where = plan->kernels(static_cast<int>(k)).symbol();
        return status;
      }
  return {};
}

Expected<LaneStep> CudaDevice::createLaneStep(int program, int index, const std::vector<ByteRange> &dead) {
  const plan::Step &step = plan->programs(program).steps(index);
  LaneStep ready;
  int32_t *counter = nullptr;
  if (hasIndex(step)) {
    auto found = std::ranges::find(indexedSteps, std::pair(program, index));
    counter = reinterpret_cast<int32_t *>(outside.get()) + (found - indexedSteps.begin());
    ready.accesses.push_back({counter, sizeof(int32_t), plan::Operand::READ_WRITE});
  }
  auto work = createStep(step, context, counter);
  if (!work)
    return tl::unexpected(at(program, static_cast<size_t>(index), std::move(work.error())));
  ready.work = std::move(*work);
  ready.name = step.name().c_str();
  for (const plan::Operand &operand : step.operands())
    ready.accesses.push_back({context.address(operand.slice()), operand.slice().bytes(), operand.access()});
  if (auto found = std::ranges::find(collectives, std::pair(program, index)); found != collectives.end()) {
    ready.mark = numbers.get() + (found - collectives.begin()) * static_cast<std::ptrdiff_t>(sizeof(int32_t));
    ready.progress = progress.get();
  }
  ready.lane = step.lane();
  ready.waits.assign(step.waits().begin(), step.waits().end());
  ready.signal = step.signal();
  for (const ByteRange &range : dead)
    ready.dead.push_back({arenas[range.arena].get() + range.begin, range.end - range.begin});
  return ready;
}

Status CudaDevice::createPrograms() {
  uint32_t laneCount = 1;
  for (int p = 0; p < plan->programs_size(); ++p)
    for (int s = 0; s < plan->programs(p).steps_size(); ++s) {
      const plan::Step &step = plan->programs(p).steps(s);
      laneCount = std::max(laneCount, step.lane() + 1);
      if (hasIndex(step))
        indexedSteps.emplace_back(p, s);
      if (ranks && step.has_collective())
        collectives.emplace_back(p, s);
    }
  if (Status status = numberCollectives(); !status)
    return status;
  auto counters = allocateDevice(indexedSteps.size() * sizeof(int32_t));
  auto copy = allocatePinned(indexedSteps.size() * sizeof(int32_t));
  if (!counters || !copy)
    return tl::unexpected(std::move(counters ? copy.error() : counters.error()));
  outside = std::move(*counters);
  outsideCopy = std::move(*copy);

  std::vector<cudaStream_t> streams;
  for (uint32_t lane = 0; lane < laneCount; ++lane) {
    auto stream = createStream();
    if (!stream)
      return tl::unexpected(std::move(stream.error()));
    streams.push_back(stream->get());
    lanes.push_back(std::move(*stream));
  }
  main = streams.front();

  for (int p = 0; p < plan->programs_size(); ++p) {
    const plan::Program &source = plan->programs(p);
    auto dead = poison ? deadAfterSteps(*plan, source) : std::vector<std::vector<ByteRange>>(source.steps_size());
    std::vector<LaneStep> steps;
    for (int s = 0; s < source.steps_size(); ++s) {
      auto step = createLaneStep(p, s, dead[s]);
      if (!step)
        return tl::unexpected(std::move(step.error()));
      steps.push_back(std::move(*step));
    }
    auto program = ReadyProgram::create(std::move(steps), source.signals(), streams, profile);
    if (!program)
      return tl::unexpected(std::move(program.error()));
    programs.push_back(std::move(*program));
  }
  return {};
}

Status CudaDevice::numberCollectives() {
  std::vector<int32_t> values(collectives.size());
  std::iota(values.begin(), values.end(), 0);
  auto device = allocateDevice(values.size() * sizeof(int32_t));
  auto host = allocatePinned(values.empty() ? 0 : sizeof(int32_t));
  if (!device || !host)
    return tl::unexpected(std::move(device ? host.error() : device.error()));
  numbers = std::move(*device);
  progress = std::move(*host);
  if (values.empty())
    return {};
  std::memset(progress.get(), 0xFF, sizeof(int32_t));
  return check(cudaMemcpy(numbers.get(), values.data(), values.size() * sizeof(int32_t), cudaMemcpyHostToDevice),
               "write device memory");
}

/// Where the device is in a sequence that runs: at the last collective that it has begun.
DeviceRanks::Place CudaDevice::place(std::span<const int> sequence) const {
  int32_t number = -1;
  if (progress)
    number = std::atomic_ref(*reinterpret_cast<int32_t *>(progress.get())).load(std::memory_order_relaxed);
  if (number < 0 || static_cast<size_t>(number) >= collectives.size())
    return {number, nullptr, "program '" + plan->programs(sequence.front()).name() + "'"};
  const auto [p, s] = collectives[static_cast<size_t>(number)];
  const plan::Step &step = plan->programs(p).steps(s);
  return {number, ranks->find(step.collective().axes()),
          "program '" + plan->programs(p).name() + "', step " + std::to_string(s) + " '" + step.name() + "'"};
}

Status CudaDevice::wait(std::span<const int> sequence) {
  if (!ranks)
    return check(cudaStreamSynchronize(main), "run the plan's programs on the device");
  return ranks->wait(main, [&] { return place(sequence); });
}

Diagnostic CudaDevice::at(int program, size_t step, Diagnostic problem) const {
  const plan::Program &source = plan->programs(program);
  problem.where = "program '" + source.name() + "'";
  if (step < static_cast<size_t>(source.steps_size()))
    problem.where += ", step " + std::to_string(step) + " '" + source.steps(static_cast<int>(step)).name() + "'";
  return problem;
}

bool CudaDevice::readsStaging(const plan::Program &program) const {
  return std::ranges::any_of(program.steps(), [&](const plan::Step &step) {
    return std::ranges::any_of(step.operands(), [&](const plan::Operand &operand) {
      return staged[plan->buffers(static_cast<int>(operand.slice().buffer())).arena()] != nullptr;
    });
  });
}

Status CudaDevice::enqueue(std::span<const int> sequence, bool measured) {
  if (std::ranges::any_of(sequence, [&](int p) { return readsStaging(plan->programs(p)); }))
    for (size_t a = 0; a < staged.size(); ++a)
      if (staged[a])
        if (Status status =
                check(cudaMemcpyAsync(arenas[a].get(), staged[a].get(), plan->arenas(static_cast<int>(a)).bytes(),
                                      cudaMemcpyHostToDevice, main),
                      "send the inputs");
            !status)
          return status;
  for (int p : sequence) {
    if (poison)
      for (size_t a = 0; a < arenas.size(); ++a)
        if (arenas[a] && plan->arenas(static_cast<int>(a)).class_() == plan::Arena::STEP)
          if (Status status = enqueuePoison({arenas[a].get(), plan->arenas(static_cast<int>(a)).bytes()}, main);
              !status)
            return status;
    auto enqueued = measured ? programs[p].enqueueMeasured() : programs[p].enqueue();
    if (!enqueued)
      return tl::unexpected(at(p, enqueued.error().step, std::move(enqueued.error().problem)));
  }
  for (size_t i = 0; i < sequence.size(); ++i)
    if (std::ranges::find(sequence.first(i), sequence[i]) == sequence.begin() + static_cast<std::ptrdiff_t>(i))
      if (Status status = metrics.enqueue(plan->programs(sequence[i]).name(), main); !status)
        return status;
  if (!outsideCopy)
    return {};
  return check(cudaMemcpyAsync(outsideCopy.get(), outside.get(), indexedSteps.size() * sizeof(int32_t),
                               cudaMemcpyDeviceToHost, main),
               "read the counts of bad indexes");
}

Status CudaDevice::capture(Sequence &sequence) {
  if (Status status =
          check(cudaStreamBeginCapture(main, cudaStreamCaptureModeThreadLocal), "begin the capture of a graph");
      !status)
    return status;
  Status enqueued = enqueue(sequence.programs, /*measured=*/false);
  cudaGraph_t made = nullptr;
  Status ended = check(cudaStreamEndCapture(main, &made), "capture a graph");
  Graph graph(made);
  if (!enqueued || !ended)
    return enqueued ? ended : enqueued;
  cudaGraphExec_t executable = nullptr;
  if (Status status = check(cudaGraphInstantiate(&executable, made, 0), "instantiate a graph"); !status)
    return status;
  sequence.graph.reset(executable);
  return check(cudaGraphUpload(executable, main), "upload a graph");
}

Sequence &CudaDevice::find(std::span<const int> programs) {
  for (Sequence &sequence : sequences)
    if (std::ranges::equal(sequence.programs, programs))
      return sequence;
  return sequences.emplace_back(Sequence{.programs = {programs.begin(), programs.end()}, .hasRun = false, .graph = {}});
}

Status CudaDevice::launch(std::span<const int> programsToRun) {
  metrics.forget();
  Sequence &sequence = find(programsToRun);
  Status status;
  if (profile || !sequence.hasRun) {
    status = enqueue(sequence.programs, profile);
  } else {
    if (!sequence.graph)
      status = capture(sequence);
    if (status)
      status = check(cudaGraphLaunch(sequence.graph.get(), main), "launch a graph");
  }
  if (status)
    status = wait(sequence.programs);
  if (status)
    status = checkIndexes();
  if (!status)
    return status;
  sequence.hasRun = true;
  metrics.refreshed(sequence.programs, *plan);
  if (profile)
    for (int p : sequence.programs)
      if (Status measured = programs[p].readTimes(); !measured)
        return measured;
  return {};
}

Status CudaDevice::runSequence(std::span<const int> sequence, const std::function<void(int)> &starts) {
  if (sequence.empty())
    return {};
  if (!profile) {
    starts(sequence.front());
    return launch(sequence);
  }
  return Device::runSequence(sequence, starts); // whose steps are measured one by one anyway
}

Status CudaDevice::checkIndexes() const {
  for (size_t i = 0; i < indexedSteps.size(); ++i) {
    int32_t count = 0;
    std::memcpy(&count, outsideCopy.get() + i * sizeof(count), sizeof(count));
    if (count != 0)
      return tl::unexpected(at(indexedSteps[i].first, static_cast<size_t>(indexedSteps[i].second),
                               {"an index is out of range",
                                {},
                                "it happened " + std::to_string(count) + " times",
                                "check that all token ids are below the model's vocabulary"}));
  }
  return {};
}

std::span<std::byte> CudaDevice::bytes(const plan::Slice &slice) {
  const plan::Buffer &buffer = plan->buffers(static_cast<int>(slice.buffer()));
  std::byte *memory = staged[buffer.arena()].get();
  return memory ? std::span(memory + buffer.offset() + slice.offset(), slice.bytes()) : std::span<std::byte>();
}

Status CudaDevice::read(const plan::Slice &slice, std::span<std::byte> destination) const {
  const plan::Buffer &buffer = plan->buffers(static_cast<int>(slice.buffer()));
  const std::byte *device = context.address(slice), *host = metrics.find(device, destination.size());
  if (const std::byte *memory = staged[buffer.arena()].get())
    host = memory + buffer.offset() + slice.offset();
  if (host) {
    std::memcpy(destination.data(), host, destination.size());
    return {};
  }
  if (Status status =
          check(cudaMemcpyAsync(destination.data(), device, destination.size(), cudaMemcpyDeviceToHost, main),
                "read device memory");
      !status)
    return status;
  return check(cudaStreamSynchronize(main), "read device memory");
}

Status CudaDevice::write(const plan::Slice &slice, std::span<const std::byte> source) {
  if (std::span<std::byte> host = bytes(slice); !host.empty()) {
    std::ranges::copy(source, host.begin());
    return {};
  }
  metrics.forget();
  if (Status status =
          check(cudaMemcpyAsync(context.address(slice), source.data(), source.size(), cudaMemcpyHostToDevice, main),
                "write device memory");
      !status)
    return status;
  return check(cudaStreamSynchronize(main), "write device memory");
}

} // namespace

std::unique_ptr<Device> createCudaDevice() {
  return std::make_unique<CudaDevice>();
}

} // namespace moe::cuda
