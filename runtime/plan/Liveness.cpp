//===- Liveness.cpp - Which bytes of the step arenas are dead when? -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Liveness.h"

#include <algorithm>
#include <map>
#include <optional>

namespace moe {
namespace {

/// A set of bytes as disjoint ranges that do not touch.
class ByteSet {
public:
  void insert(uint64_t begin, uint64_t end) {
    if (begin >= end)
      return;
    auto next = ranges.upper_bound(begin);
    if (next != ranges.begin() && std::prev(next)->second >= begin)
      --next;
    while (next != ranges.end() && next->first <= end) {
      begin = std::min(begin, next->first);
      end = std::max(end, next->second);
      next = ranges.erase(next);
    }
    ranges.emplace(begin, end);
  }

  void erase(uint64_t begin, uint64_t end) {
    if (begin >= end)
      return;
    auto next = ranges.upper_bound(begin);
    if (next != ranges.begin() && std::prev(next)->second > begin)
      --next;
    while (next != ranges.end() && next->first < end) {
      auto [first, last] = *next;
      next = ranges.erase(next);
      if (first < begin)
        ranges.emplace(first, begin);
      if (last > end)
        ranges.emplace(end, last);
    }
  }

  void erase(const ByteSet &other) {
    for (auto [begin, end] : other.ranges)
      erase(begin, end);
  }

  const std::map<uint64_t, uint64_t> &get() const { return ranges; }

private:
  std::map<uint64_t, uint64_t> ranges; // begin -> end
};

using Sets = std::vector<ByteSet>; // one per arena

/// The arena bytes of a slice, if they lie in a STEP arena.
std::optional<ByteRange> stepBytes(const plan::Plan &plan, const plan::Slice &slice) {
  const plan::Buffer &buffer = plan.buffers(static_cast<int>(slice.buffer()));
  if (plan.arenas(static_cast<int>(buffer.arena())).class_() != plan::Arena::STEP)
    return {};
  uint64_t begin = buffer.offset() + slice.offset();
  return ByteRange{buffer.arena(), begin, begin + slice.bytes()};
}

bool isRead(const plan::Operand &operand) {
  return operand.access() == plan::Operand::READ || operand.access() == plan::Operand::READ_WRITE;
}

/// What is dead after `step` if `live` is what later steps read; makes `live` what this step and later ones read.
std::vector<ByteRange> walk(const plan::Plan &plan, const plan::Step &step, Sets &live) {
  std::map<uint32_t, ByteSet> dead;
  for (const plan::Operand &operand : step.operands())
    if (auto range = stepBytes(plan, operand.slice()))
      dead[range->arena].insert(range->begin, range->end);
  for (auto &[arena, set] : dead)
    set.erase(live[arena]);
  for (const plan::Operand &operand : step.operands()) {
    auto range = stepBytes(plan, operand.slice());
    if (!range || isRead(operand))
      continue;
    // Scratch is garbage even where a wrong plan reads it later: that is what poison is to show.
    if (operand.access() == plan::Operand::SCRATCH)
      dead[range->arena].insert(range->begin, range->end);
    live[range->arena].erase(range->begin, range->end);
  }
  for (const plan::Operand &operand : step.operands())
    if (auto range = stepBytes(plan, operand.slice()); range && isRead(operand))
      live[range->arena].insert(range->begin, range->end);

  std::vector<ByteRange> ranges;
  for (const auto &[arena, set] : dead)
    for (auto [begin, end] : set.get())
      ranges.push_back({arena, begin, end});
  return ranges;
}

} // namespace

std::vector<std::vector<ByteRange>> deadAfterSteps(const plan::Plan &plan, const plan::Program &program) {
  Sets live(plan.arenas_size());
  for (const plan::Output &output : program.outputs())
    if (auto range = stepBytes(plan, output.slice()))
      live[range->arena].insert(range->begin, range->end);
  std::vector<std::vector<ByteRange>> dead(program.steps_size());
  for (int i = program.steps_size() - 1; i >= 0; --i)
    dead[i] = walk(plan, program.steps(i), live);
  return dead;
}

} // namespace moe
