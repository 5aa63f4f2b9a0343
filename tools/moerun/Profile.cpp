//===- Profile.cpp - Where the time of an update goes ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Profile.h"
#include "runtime/plan/StepKind.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace moe {

std::string profileKind(const plan::Plan &plan, const plan::Step &step) {
  if (step.has_kernel())
    return plan.kernels(static_cast<int>(step.kernel().kernel())).emitter();
  return stepKind(step);
}

double stepBytes(const plan::Step &step) {
  double bytes = 0;
  for (const plan::Operand &operand : step.operands()) {
    auto size = static_cast<double>(operand.slice().bytes());
    if (operand.access() == plan::Operand::READ_WRITE)
      bytes += 2 * size;
    else if (operand.access() != plan::Operand::SCRATCH)
      bytes += size;
  }
  return bytes;
}

Profile::Profile(const Session &session, int microStep, int update) : session(session), update(update) {
  const plan::Plan &plan = session.plan();
  auto add = [&](int index, int64_t runs) {
    const plan::Program &program = plan.programs(index);
    for (int s = 0; s < program.steps_size(); ++s) {
      const plan::Step &step = program.steps(s);
      list.push_back({program.name(), s, step.name(), profileKind(plan, step), std::numeric_limits<double>::infinity(),
                      step.flops(), stepBytes(step), runs});
    }
  };
  add(microStep, plan.training().accumulate());
  updateBegin = list.size();
  add(update, 1);
}

void Profile::record(int program) {
  std::span<const double> seconds = session.stepSeconds(program);
  size_t begin = program == update ? updateBegin : 0;
  for (size_t s = 0; s < seconds.size(); ++s)
    list[begin + s].seconds = std::min(list[begin + s].seconds, seconds[s]);
}

std::map<std::string, KindProfile> Profile::kinds() const {
  std::map<std::string, KindProfile> sums;
  for (const StepProfile &step : list) {
    KindProfile &kind = sums[step.kind];
    auto runs = static_cast<double>(step.runs);
    kind.seconds += step.total();
    kind.flops += step.flops * runs;
    kind.bytes += step.bytes * runs;
    kind.steps += step.runs;
  }
  return sums;
}

double Profile::seconds() const {
  double sum = 0;
  for (const StepProfile &step : list)
    sum += step.total();
  return sum;
}

double Profile::productSeconds() const {
  double sum = 0;
  for (const StepProfile &step : list)
    if (step.kind == "gemm" || step.kind.starts_with("attention"))
      sum += step.total();
  return sum;
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
static uint64_t splitMix(uint64_t &state) {
  uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

void stageRandomTokens(Session &session, uint64_t seed) {
  const int64_t padId = session.plan().training().pad_id();
  for (const plan::Input &input : session.plan().inputs()) {
    std::span<std::byte> staging = session.bytes(input.staging());
    std::fill(staging.begin(), staging.end(), std::byte{0});
    size_t width = input.dtype() == plan::I64 ? 8 : input.dtype() == plan::I32 ? 4 : 0;
    if (width == 0 || input.vocabulary() <= 0)
      continue;
    for (size_t offset = 0; offset + width <= staging.size(); offset += width) {
      auto token = static_cast<int64_t>(splitMix(seed) % static_cast<uint64_t>(input.vocabulary()));
      if (token == padId)
        token = (token + 1) % input.vocabulary();
      std::memcpy(staging.data() + offset, &token, width); // little endian, as plans are
    }
  }
}

} // namespace moe
