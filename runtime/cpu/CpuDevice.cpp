//===- CpuDevice.cpp - The CPU backend ----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/ThreadRanks.h"
#include "runtime/core/Device.h"
#include "runtime/cpu/ArenaMemory.h"
#include "runtime/cpu/CpuFeatures.h"
#include "runtime/cpu/Describe.h"
#include "runtime/cpu/Gemm.h"
#include "runtime/cpu/Image.h"
#include "runtime/cpu/Steps.h"
#include "runtime/plan/Liveness.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

extern "C" int omp_get_thread_limit();

namespace moe::cpu {
namespace {

constexpr int kPoisonByte = 0xff; // NaN in every floating-point type, -1 in every integer
constexpr int64_t kPoisonBytesPerThread = 256 << 10;

struct ReadyStep {
  std::unique_ptr<StepRunner> work;
  std::vector<uint32_t> waits;
  uint32_t signal = 0;
  std::vector<ByteRange> dead; ///< filled with poison afterwards; empty without poison
};

struct ReadyProgram {
  std::vector<ReadyStep> steps; ///< of all lanes, in the order of the plan
  std::vector<char> raised;     ///< by signal id
  std::vector<double> seconds;  ///< of each step when it ran last; empty unless profiled
};

class CpuDevice final : public Device {
public:
  std::vector<DeviceFact> describe() const override { return describeCpu(); }
  Status prepare(const plan::Plan &plan, int localRank) override;
  Status initialize(const PlanFile &file, const DeviceOptions &options) override;
  Status run(int program) override;
  std::span<const double> stepSeconds(int program) const override { return programs[program].seconds; }

  std::span<std::byte> bytes(const plan::Slice &slice) override {
    return {context.address(slice), static_cast<size_t>(slice.bytes())};
  }

  Status read(const plan::Slice &slice, std::span<std::byte> destination) const override {
    std::memcpy(destination.data(), context.address(slice), destination.size());
    return {};
  }

  Status write(const plan::Slice &slice, std::span<const std::byte> source) override {
    std::memcpy(context.address(slice), source.data(), source.size());
    return {};
  }

private:
  const plan::Plan *plan = nullptr;
  bool poison = false, profile = false;
  std::vector<ArenaMemory> arenas;
  std::vector<Image> images;
  StepContext context;
  std::vector<std::unique_ptr<Communicator>> alone; ///< a plan for one rank may have collectives too
  std::vector<ReadyProgram> programs;               // refers to all of the above

  Status allocate();
  Status loadKernels(const PlanFile &file);
  Status createPrograms();
  std::string place(int program, size_t step) const;
  void fillWithPoison(const ByteRange &range);
};

std::string list(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

Status CpuDevice::prepare(const plan::Plan &plan, int /*localRank*/) {
  const plan::Target &target = plan.target();
  std::vector<std::string> missing;
  for (const std::string &feature : target.features()) {
    Support support = cpuSupports(feature);
    if (support != Support::Yes)
      missing.push_back(feature + (support == Support::Unknown ? " (unknown to this version)" : ""));
  }
  if (!missing.empty())
    return error("this plan was compiled for another CPU", {},
                 "it is for '" + target.name() + "'; this CPU lacks: " + list(missing),
                 "compile the model with --target cpu:native on this machine");
  if (omp_get_thread_limit() < target.threads())
    return error("the plan needs more threads than allowed", {},
                 "it runs on " + std::to_string(target.threads()) + " threads, OMP_THREAD_LIMIT is " +
                     std::to_string(omp_get_thread_limit()),
                 "unset OMP_THREAD_LIMIT");
  for (const plan::Image &image : plan.images())
    if (image.format() != "elf")
      return error("the plan has code that the CPU backend can not load", {}, "its format is " + image.format());
  // Scratch and bits of the library are those of the target, whatever this machine could do beyond it.
  return limitGemmIsa({target.features().begin(), target.features().end()});
}

Status CpuDevice::initialize(const PlanFile &file, const DeviceOptions &options) {
  plan = &file.plan;
  poison = options.poison;
  profile = options.profile;
  context.pool = ThreadPool(plan->target().threads());
  std::vector<std::string_view> features(plan->target().features().begin(), plan->target().features().end());
  context.isa = isaFromFeatures(features);
  context.plan = plan;
  if (!options.communicator)
    alone = makeThreadRanks(1, {});
  context.communicator = options.communicator ? options.communicator : alone.front().get();
  context.axisIndex = coordinatesOf(*plan, context.communicator->rank());
  if (Status status = allocate(); !status)
    return status;
  if (Status status = loadKernels(file); !status)
    return status;
  return createPrograms();
}

Status CpuDevice::allocate() {
  for (const plan::Arena &arena : plan->arenas()) {
    auto memory = ArenaMemory::create(arena.bytes(), arena.alignment(), poison);
    if (!memory) {
      memory.error().where = "arena '" + arena.name() + "'";
      return tl::unexpected(std::move(memory.error()));
    }
    arenas.push_back(std::move(*memory));
  }
  for (const plan::Buffer &buffer : plan->buffers())
    context.buffers.push_back(arenas[buffer.arena()].data() + buffer.offset());
  return {};
}

Status CpuDevice::loadKernels(const PlanFile &file) {
  for (size_t i = 0; i < file.blobs.size(); ++i) {
    auto image = Image::load(file.blobs[i], "image " + std::to_string(i));
    if (!image)
      return tl::unexpected(std::move(image.error()));
    images.push_back(std::move(*image));
  }
  std::vector<std::string> missing;
  for (const plan::Kernel &kernel : plan->kernels()) {
    void *symbol = images[kernel.image()].symbol(kernel.symbol());
    if (!symbol)
      missing.push_back(kernel.symbol());
    context.kernels.push_back(reinterpret_cast<MoeKernelFn>(symbol));
  }
  if (!missing.empty())
    return error("the plan names kernels that its code does not have", {}, list(missing),
                 "compile the model again with the moec of this release");
  return {};
}

Status CpuDevice::createPrograms() {
  for (int p = 0; p < plan->programs_size(); ++p) {
    const plan::Program &source = plan->programs(p);
    ReadyProgram &program = programs.emplace_back();
    program.raised.resize(size_t{source.signals()} + 1);
    program.seconds.resize(profile ? source.steps_size() : 0);
    auto dead = poison ? deadAfterSteps(*plan, source) : std::vector<std::vector<ByteRange>>(source.steps_size());
    for (int s = 0; s < source.steps_size(); ++s) {
      const plan::Step &step = source.steps(s);
      auto work = createStep(step, context, place(p, s));
      if (!work) {
        work.error().where = place(p, s) + (work.error().where.empty() ? "" : ": " + work.error().where);
        return tl::unexpected(std::move(work.error()));
      }
      program.steps.push_back(
          {std::move(*work), {step.waits().begin(), step.waits().end()}, step.signal(), std::move(dead[s])});
    }
  }
  return {};
}

std::string CpuDevice::place(int program, size_t step) const {
  const plan::Program &source = plan->programs(program);
  return "program '" + source.name() + "', step " + std::to_string(step) + " '" +
         source.steps(static_cast<int>(step)).name() + "'";
}

void CpuDevice::fillWithPoison(const ByteRange &range) {
  std::byte *begin = arenas[range.arena].data() + range.begin;
  context.pool.parallelFor(
      static_cast<int64_t>(range.end - range.begin), kPoisonBytesPerThread,
      [&](int64_t from, int64_t to, int) { std::memset(begin + from, kPoisonByte, static_cast<size_t>(to - from)); });
}

Status CpuDevice::run(int index) {
  ThreadCount threads(context.pool.threads());
  ReadyProgram &program = programs[index];
  if (poison)
    for (int i = 0; i < plan->arenas_size(); ++i)
      if (plan->arenas(i).class_() == plan::Arena::STEP)
        fillWithPoison({static_cast<uint32_t>(i), 0, plan->arenas(i).bytes()});

  std::fill(program.raised.begin(), program.raised.end(), 0);
  using Clock = std::chrono::steady_clock;
  Clock::time_point before = profile ? Clock::now() : Clock::time_point();
  // The caller executes all lanes: plans list their steps in an order that every signal allows.
  for (size_t s = 0; s < program.steps.size(); ++s) {
    ReadyStep &step = program.steps[s];
    for (uint32_t signal : step.waits)
      if (!program.raised[signal])
        return error("a step waits for a signal that nothing before it raises", place(index, s),
                     "signal " + std::to_string(signal), {}, ExitCode::Internal);
    if (Status status = step.work->run(); !status) {
      if (status.error().where.empty()) // communicators know more of where they are
        status.error().where = place(index, s);
      return status;
    }
    program.raised[step.signal] = 1; // entry 0 stands for no signal
    if (profile) {
      Clock::time_point now = Clock::now();
      program.seconds[s] = std::chrono::duration<double>(now - std::exchange(before, now)).count();
    }
    for (const ByteRange &range : step.dead)
      fillWithPoison(range);
  }
  return {};
}

} // namespace
} // namespace moe::cpu

extern "C" __attribute__((visibility("default"))) moe::Device *MOERUN_CREATE_DEVICE() {
  return new moe::cpu::CpuDevice;
}
