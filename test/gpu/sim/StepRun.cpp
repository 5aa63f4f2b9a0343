//===- StepRun.cpp - One step on the simulated device, watched ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/StepRun.h"

#include "runtime/plan/plan.pb.h"
#include "test/gpu/sim/Protection.h"
#include "test/gpu/sim/State.h"
#include "test/gpu/sim/Undefined.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace moe::sim {
namespace {

/// What memory holds that nobody has written: NaN and -1 at first, tiny numbers and indices out of range then. What the
/// step may not touch is as ever at first and differs then.
constexpr RunMode kFirst = {Order::Ascending, 0xFF};
constexpr RunMode kSecond = {Order::Descending, 0x01};

/// Another value for each byte: what was true is false, what was a number of moderate size is a large or a small
/// one of the other sign.
std::byte other(const std::byte *at, std::byte value) {
  return value ^ std::byte(reinterpret_cast<uintptr_t>(at) % 4 == 3 ? 0xC1 : 0x01);
}

/// Bytes that a step writes.
struct Segment {
  std::byte *begin, *end;
  bool kept;   ///< also read: the old contents count
  bool result; ///< not only scratch

  size_t size() const { return static_cast<size_t>(end - begin); }
};

std::byte *beginOf(const MoeSimAccess &access) {
  return static_cast<std::byte *>(const_cast<void *>(access.address));
}

std::vector<Segment> writtenSegments(const Step &step) {
  std::vector<std::byte *> cuts;
  for (const MoeSimAccess &access : step.accesses)
    cuts.insert(cuts.end(), {beginOf(access), beginOf(access) + access.bytes});
  std::ranges::sort(cuts);
  std::vector<Segment> segments;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    if (cuts[i] == cuts[i + 1])
      continue;
    bool read = false, written = false, scratch = false;
    for (const MoeSimAccess &access : step.accesses) {
      if (beginOf(access) > cuts[i] || beginOf(access) + access.bytes < cuts[i + 1])
        continue;
      read |= access.access == plan::Operand::READ || access.access == plan::Operand::READ_WRITE;
      written |= access.access == plan::Operand::WRITE || access.access == plan::Operand::READ_WRITE;
      scratch |= access.access == plan::Operand::SCRATCH;
    }
    if (written || scratch)
      segments.push_back({cuts[i], cuts[i + 1], read, written});
  }
  return segments;
}

using Contents = std::vector<std::vector<std::byte>>;

template <typename Part> Contents save(std::span<const Part> parts) {
  Contents contents;
  for (const Part &part : parts)
    contents.emplace_back(part.begin, part.end);
  return contents;
}

class StepRun {
public:
  StepRun(const Step &step, std::span<const Task *const> tasks)
      : step(step), tasks(tasks), segments(writtenSegments(step)), protection(rangesOf(step)) {
    for (const MoeSimAccess &access : step.accesses)
      if (access.access == plan::Operand::READ || access.access == plan::Operand::READ_WRITE)
        std::ranges::copy(undefinedMemory().within({beginOf(access), beginOf(access) + access.bytes}),
                          std::back_inserter(undefined));
  }

  std::string run() {
    Contents before = save<Segment>(segments);
    if (std::string problem = once(kFirst, /*hidesRest=*/false); !problem.empty())
      return problem;
    if (undefined.empty() && std::ranges::none_of(tasks, &Task::computes)) {
      for (const Segment &segment : segments)
        define(segment);
      return {};
    }
    Contents first = save<Segment>(segments);
    for (size_t i = 0; i < segments.size(); ++i)
      if (segments[i].kept)
        std::ranges::copy(before[i], segments[i].begin);
    if (std::string problem = once(kSecond, /*hidesRest=*/true); !problem.empty())
      return problem;
    for (size_t i = 0; i < segments.size(); ++i)
      if (std::string problem = compare(first[i], segments[i]); !problem.empty())
        return problem;
    return {};
  }

private:
  const Step &step;
  std::span<const Task *const> tasks;
  std::vector<Segment> segments;
  Protection protection;
  std::vector<Undefined::Bytes> undefined; ///< of what the step reads

  static std::vector<Range> rangesOf(const Step &step) {
    std::vector<Range> ranges;
    ranges.reserve(step.accesses.size());
    for (const MoeSimAccess &access : step.accesses)
      ranges.push_back({beginOf(access), beginOf(access) + access.bytes, access.access != plan::Operand::READ});
    return ranges;
  }

  std::string what(const Task *only) const {
    std::string text = "step '" + step.name + "', ";
    if (only)
      return text + only->name;
    for (size_t i = 0; i < tasks.size(); ++i)
      text += (i > 0 ? " and " : "") + tasks[i]->name;
    return text;
  }

  std::string once(const RunMode &mode, bool hidesRest) {
    for (const Segment &segment : segments)
      if (!segment.kept)
        std::memset(segment.begin, mode.garbage, segment.size());
    for (const Undefined::Bytes &part : undefined)
      std::memset(part.begin, mode.garbage, static_cast<size_t>(part.end - part.begin));
    Contents around = save(protection.exposed());
    for (const Exposed &part : protection.exposed())
      if (hidesRest && !part.read)
        for (std::byte *at = part.begin; at < part.end; ++at)
          *at = other(at, *at);

    std::string problem;
    protection.arm();
    for (const Task *task : tasks) {
      if (task->meets)
        protection.disarm(); // it has checked what it touches when it was enqueued
      problem = task->run(mode);
      if (task->meets)
        protection.arm();
      if (problem.empty())
        problem = protection.violation();
      if (!problem.empty()) {
        problem = what(task) + ": " + problem;
        break;
      }
    }
    protection.disarm();

    std::vector<std::byte> expected;
    for (size_t i = 0; i < around.size(); ++i) {
      const Exposed &part = protection.exposed()[i];
      expected = around[i];
      if (hidesRest && !part.read)
        for (size_t at = 0; at < expected.size(); ++at)
          expected[at] = other(part.begin + at, expected[at]);
      auto [wrong, same] = std::mismatch(part.begin, part.end, expected.begin());
      if (wrong != part.end && problem.empty())
        problem = what(nullptr) + ": writes what it does not declare to write, at " + describeAddress(wrong);
      std::ranges::copy(around[i], part.begin);
    }
    return problem;
  }

  static void define(const Segment &segment) {
    if (segment.result)
      undefinedMemory().remove({segment.begin, segment.end});
    else
      undefinedMemory().add({segment.begin, segment.end});
  }

  /// After the second run, whose results lie in memory. What differs and is the garbage of each run was not written.
  std::string compare(const std::vector<std::byte> &first, const Segment &segment) const {
    define(segment);
    for (size_t i = 0; segment.result && i < segment.size(); ++i) {
      if (first[i] == segment.begin[i])
        continue;
      if (first[i] != std::byte{kFirst.garbage} || segment.begin[i] != std::byte{kSecond.garbage})
        return what(nullptr) + ": gives other bits when other threads come first or unwritten memory holds other " +
               "garbage, at " + describeAddress(segment.begin + i) +
               (undefined.empty()
                    ? ""
                    : "; it reads what nothing has written, at " + describeAddress(undefined.front().begin));
      undefinedMemory().add({segment.begin + i, segment.begin + i + 1});
    }
    return {};
  }
};

} // namespace

std::string runStep(const Step *step, std::span<const Task *const> tasks) {
  if (step) {
    for (const MoeSimAccess &access : step->accesses)
      if (access.bytes > 0 && !findDevice(access.address, access.bytes))
        return "step '" + step->name + "' declares memory that is not of the device";
    return StepRun(*step, tasks).run();
  }
  for (const Task *task : tasks)
    if (std::string problem = task->run(kFirst); !problem.empty())
      return task->name + ": " + problem;
  return {};
}

} // namespace moe::sim
