//===- Session.cpp - A plan that is ready to run ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Session.h"

#include "runtime/comm/Agreement.h"
#include "runtime/core/Backend.h"
#include "runtime/core/Memory.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"
#include "runtime/plan/Validator.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace moe {
namespace {

template <typename T> T load(const std::byte *bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

double widenHalf(uint16_t bits) {
  int exponent = (bits >> 10) & 0x1f;
  int mantissa = bits & 0x3ff;
  double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 0x1f)
    magnitude = mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  return (bits & 0x8000) ? -magnitude : magnitude;
}

double widen(plan::DType dtype, const std::byte *bytes) {
  switch (dtype) {
  case plan::F32:
    return load<float>(bytes);
  case plan::BF16:
    return std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(bytes)) << 16);
  case plan::F16:
    return widenHalf(load<uint16_t>(bytes));
  case plan::I32:
    return load<int32_t>(bytes);
  case plan::I64:
    return static_cast<double>(load<int64_t>(bytes));
  default:
    return load<uint8_t>(bytes);
  }
}

class DeviceSession final : public Session {
public:
  DeviceSession(PlanFile file, Communicator *ranks) : file(std::move(file)), ranks(ranks) {}

  Status open(const SessionOptions &options);
  Status prepare(const SessionOptions &options);

  const plan::Plan &plan() const override { return file.plan; }
  Communicator *communicator() const override { return ranks; }

  int programIndex(std::string_view name) const override {
    for (int i = 0; i < file.plan.programs_size(); ++i)
      if (file.plan.programs(i).name() == name)
        return i;
    return -1;
  }

  Status run(int program) override {
    if (program < 0 || program >= file.plan.programs_size())
      return error("the plan has no program " + std::to_string(program), {}, {}, {}, ExitCode::Internal);
    return device->run(program);
  }

  Status runSequence(std::span<const int> programs, const std::function<void(int)> &starts) override {
    for (int program : programs)
      if (program < 0 || program >= file.plan.programs_size())
        return error("the plan has no program " + std::to_string(program), {}, {}, {}, ExitCode::Internal);
    return device->runSequence(programs, starts);
  }

  std::span<const double> stepSeconds(int program) const override {
    return program < 0 || program >= file.plan.programs_size() ? std::span<const double>()
                                                               : device->stepSeconds(program);
  }

  std::span<std::byte> bytes(const plan::Slice &slice) override { return device->bytes(slice); }

  Status read(const plan::Slice &slice, std::span<std::byte> destination) override {
    return device->read(slice, destination);
  }

  Status write(const plan::Slice &slice, std::span<const std::byte> source) override {
    return device->write(slice, source);
  }

  double metric(int index) const override {
    const plan::Metric &metric = file.plan.metrics(index);
    // Read as a whole even if the slice is larger than its scalar: the device copies slices.
    std::array<std::byte, sizeof(int64_t)> scalar{};
    plan::Slice slice = metric.slice();
    slice.set_bytes(elementBytes(metric.dtype()));
    if (!device->read(slice, std::span(scalar).first(slice.bytes())))
      return std::numeric_limits<double>::quiet_NaN();
    return widen(metric.dtype(), scalar.data());
  }

private:
  PlanFile file;
  Communicator *ranks;
  std::unique_ptr<Device> device; // before `file` in destruction: it refers to the plan
};

/// Is the run as many ranks as the plan is for?
Status checkRanks(const plan::Plan &plan, const Communicator *ranks) {
  const uint64_t wanted = rankCount(plan), present = ranks ? static_cast<uint64_t>(ranks->size()) : 1;
  if (wanted == present)
    return {};
  auto text = [](uint64_t count) { return count == 1 ? std::string("one rank") : std::to_string(count) + " ranks"; };
  return error("this plan was compiled for " + text(wanted), {},
               "the run has " + text(present) + (wanted > 1 ? ", the plan's mesh is " + meshText(plan) : ""),
               "run it with --ranks " + std::to_string(wanted) +
                   " or under a launcher that starts as many, or compile " + "the model with --ranks " +
                   std::to_string(present));
}

/// `sharing` ranks take their memory from this machine as one process.
Status checkMemory(const plan::Plan &plan, int sharing) {
  std::optional<uint64_t> available = availableMemory();
  uint64_t required = saturatingProduct(requiredMemory(plan), static_cast<uint64_t>(sharing));
  if (!available || required <= *available)
    return {};
  std::string classes;
  for (const plan::Certificate::Class &entry : plan.certificate().classes())
    classes += (classes.empty() ? " (" : ", ") + entry.name() + " " + formatBytes(entry.bytes());
  return error("not enough memory for this plan", {},
               (sharing > 1 ? "its " + std::to_string(sharing) + " ranks need " : "it needs ") + formatBytes(required) +
                   classes +
                   (classes.empty() ? ""
                    : sharing > 1   ? " each)"
                                    : ")") +
                   ", and " + formatBytes(*available) + " are available",
               "compile for a smaller batch or with --recompute, or run on a machine with more memory");
}

bool isSimulated(const plan::Target &target) {
  return target.name() == "simulated";
}

Status DeviceSession::open(const SessionOptions &options) {
  Status ready = prepare(options);
  // What one rank can not do all give up before devices begin to wait for each other.
  if (ranks)
    ready = agree(*ranks->all(), ready, "preparing the session").status;
  return ready ? device->initialize(file, DeviceOptions{options.poison, options.profile, options.choices, ranks})
               : ready;
}

/// Everything that can be refused is refused here, before anything is allocated.
Status DeviceSession::prepare(const SessionOptions &options) {
  if (Status status = checkPlanStructure(file.plan); !status)
    return status;
  if (file.blobs.size() != static_cast<size_t>(file.plan.images_size()))
    return error("the plan has images without code", {}, {}, {}, ExitCode::Internal);
  if (file.plan.target().device() != options.device)
    return error("this plan was compiled for another device", {},
                 "it is for '" + file.plan.target().device() + "', the session for '" + options.device + "'",
                 "compile the model with --target " + options.device);
  if (Status status = checkRanks(file.plan, ranks); !status)
    return status;

  if (!options.trustPlan)
    if (Status status = validate(file.plan).status(); !status)
      return status;

  auto created = createDevice(options.device, file.plan.target().threads() * (ranks ? ranks->ranksOfProcess() : 1),
                              isSimulated(file.plan.target()));
  if (!created)
    return tl::unexpected(std::move(created.error()));
  device = std::move(*created);
  if (Status status = device->prepare(file.plan, ranks ? ranks->localRank() : 0); !status)
    return status;
  if (device->usesHostMemory())
    if (Status status = checkMemory(file.plan, ranks ? ranks->ranksOfProcess() : 1); !status)
      return status;
  return {};
}

} // namespace

Expected<std::unique_ptr<Session>> Session::create(PlanFile file, const SessionOptions &options) {
  auto session = std::make_unique<DeviceSession>(std::move(file), options.communicator);
  if (Status status = session->open(options); !status)
    return tl::unexpected(std::move(status.error()));
  return session;
}

} // namespace moe
