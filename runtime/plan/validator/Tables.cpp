//===- Tables.cpp - What persists must not overlap ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"
#include "runtime/plan/validator/Checks.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace moe::validator {
namespace {

struct NamedRange {
  Range range;
  std::string name;
};

/// Reports ranges of the same arena that share bytes, each against the one that reaches furthest before it.
void checkDisjoint(Context &context, std::vector<NamedRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const NamedRange &a, const NamedRange &b) {
    return std::pair(a.range.arena, a.range.begin) < std::pair(b.range.arena, b.range.begin);
  });
  const NamedRange *furthest = nullptr;
  for (const NamedRange &next : ranges) {
    if (next.range.begin == next.range.end)
      continue;
    bool same = furthest && furthest->range.arena == next.range.arena;
    if (same && next.range.begin < furthest->range.end)
      context.add(Rule::Overlap, {}, next.name + " overlaps " + furthest->name,
                  "bytes " + bytesOf(next.range.begin, next.range.end) + " and " +
                      bytesOf(furthest->range.begin, furthest->range.end) + " of arena " +
                      quoted(context.arenaOf(next.range).name()));
    if (!same || furthest->range.end < next.range.end)
      furthest = &next;
  }
}

void checkBuffers(Context &context) {
  std::vector<NamedRange> persistent;
  for (const plan::Buffer &buffer : context.plan.buffers()) {
    Range range{buffer.arena(), buffer.offset(), buffer.offset() + buffer.bytes()};
    if (context.arenaOf(range).class_() != plan::Arena::STEP)
      persistent.push_back({range, "buffer " + quoted(buffer.name())});
  }
  checkDisjoint(context, std::move(persistent));
}

/// A slice holds what the layout gives a rank of a tensor, no more.
void checkFits(Context &context, const std::string &name, plan::DType type, uint64_t elements,
               const plan::Slice &slice) {
  uint64_t bytes = saturatingProduct(elements, elementBytes(type));
  if (bytes != slice.bytes())
    context.add(Rule::Shape, {}, name + " needs " + std::to_string(bytes) + " bytes",
                "its slice has " + std::to_string(slice.bytes()));
}

/// Members of a flat bucket share its slice. They must agree on what the bucket is and keep apart in it.
void checkBucket(Context &context, std::vector<const plan::StateTensor *> members) {
  std::ranges::sort(members, {}, [](const plan::StateTensor *member) { return member->flat().position(); });
  const plan::StateTensor *furthest = nullptr;
  uint64_t end = 0;
  for (const plan::StateTensor *member : members) {
    const plan::FlatPlace &flat = member->flat(), &other = members.front()->flat();
    if (flat.bucket() != other.bucket() || !std::ranges::equal(flat.axes(), other.axes()) ||
        member->dtype() != members.front()->dtype())
      context.add(Rule::Shape, {},
                  "state tensor " + quoted(member->name()) + " is in a bucket of " + std::to_string(flat.bucket()) +
                      " elements",
                  "for " + quoted(members.front()->name()) + ", in the same slice, it has " +
                      std::to_string(other.bucket()) + ", or other axes or another type");
    auto begin = static_cast<uint64_t>(flat.position());
    if (furthest && begin < end)
      context.add(Rule::Overlap, {}, "state tensor " + quoted(member->name()) + " overlaps " + quoted(furthest->name()),
                  "in their bucket it begins at element " + std::to_string(begin) + ", the other one ends at " +
                      std::to_string(end));
    if (uint64_t last = begin + shardElements(context.plan, *member); !furthest || last > end) {
      furthest = member;
      end = last;
    }
  }
}

void checkState(Context &context) {
  const plan::Plan &plan = context.plan;
  std::unordered_map<std::string, plan::StateTensor::Kind> kinds;
  for (const plan::StateTensor &tensor : plan.state())
    kinds.emplace(tensor.name(), tensor.kind());
  std::vector<NamedRange> ranges;
  std::map<std::pair<uint32_t, uint64_t>, std::vector<const plan::StateTensor *>> buckets; // by arena and first byte
  for (const plan::StateTensor &tensor : plan.state()) {
    std::string name = "state tensor " + quoted(tensor.name());
    checkFits(context, name, tensor.dtype(), sliceElements(plan, tensor), tensor.slice());
    if (tensor.kind() == plan::StateTensor::GRADIENT || tensor.kind() == plan::StateTensor::MOMENT) {
      auto parameter = kinds.find(tensor.of());
      if (parameter == kinds.end() || parameter->second != plan::StateTensor::PARAMETER)
        context.add(Rule::Reference, {}, name + " belongs to " + quoted(tensor.of()), "no parameter has that name");
    }
    Range range = context.rangeOf(tensor.slice());
    if (tensor.kind() != plan::StateTensor::GRADIENT && context.arenaOf(range).class_() != plan::Arena::STATE)
      context.add(Rule::Arena, {}, name + " lies in arena " + quoted(context.arenaOf(range).name()),
                  "only gradients live outside the state arenas");
    if (tensor.has_flat()) {
      auto &members = buckets[{range.arena, range.begin}];
      members.push_back(&tensor);
      if (members.size() > 1)
        continue;
    }
    ranges.push_back({range, std::move(name)});
  }
  for (auto &[place, members] : buckets)
    checkBucket(context, std::move(members));
  checkDisjoint(context, std::move(ranges));
}

void checkInputs(Context &context) {
  const plan::Plan &plan = context.plan;
  std::unordered_set<std::string> names;
  std::vector<NamedRange> ranges;
  uint64_t batches = uint64_t(std::max<int64_t>(1, plan.training().accumulate()));
  for (const plan::Input &input : plan.inputs()) {
    std::string name = "input " + quoted(input.name());
    if (!names.insert(input.name()).second)
      context.add(Rule::Reference, {}, "two inputs are named " + quoted(input.name()));
    uint64_t elements = elementCount(input.shape()) / groupSize(plan, input.axes());
    checkFits(context, name, input.dtype(), saturatingProduct(elements, batches), input.staging());
    ranges.push_back({context.rangeOf(input.staging()), std::move(name)});
  }
  checkDisjoint(context, std::move(ranges));
}

void checkMetrics(Context &context) {
  const auto &programs = context.plan.programs();
  for (const plan::Metric &metric : context.plan.metrics()) {
    std::string name = "metric " + quoted(metric.name());
    if (metric.slice().bytes() != elementBytes(metric.dtype()))
      context.add(Rule::Shape, {}, name + " has " + std::to_string(metric.slice().bytes()) + " bytes",
                  "a metric is one element");
    if (std::none_of(programs.begin(), programs.end(),
                     [&](const plan::Program &program) { return program.name() == metric.program(); }))
      context.add(Rule::Reference, {}, name + " is left by program " + quoted(metric.program()), "there is none");
  }
}

} // namespace

void checkTables(Context &context) {
  checkBuffers(context);
  checkState(context);
  checkInputs(context);
  checkMetrics(context);
}

} // namespace moe::validator
