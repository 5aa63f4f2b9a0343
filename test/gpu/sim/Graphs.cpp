//===- Graphs.cpp - Graphs of the simulated device, in two orders -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/plan.pb.h"
#include "test/gpu/sim/State.h"
#include "test/gpu/sim/Streams.h"
#include "test/gpu/sim/Undefined.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace moe::sim {
namespace {

/// Nodes of one step, which one lane enqueues one after the other, or one node that is part of none.
struct Group {
  const Step *step = nullptr;
  std::vector<const Task *> tasks;
  std::set<size_t> after;
};

std::vector<Group> groupsOf(const std::vector<GraphNode> &nodes) {
  std::vector<Group> groups;
  std::vector<size_t> groupOf(nodes.size());
  std::map<const Step *, size_t> ofStep;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Step *step = nodes[i].step.get();
    size_t index = groups.size();
    if (auto found = ofStep.find(step); step && found != ofStep.end())
      index = found->second;
    else
      groups.emplace_back().step = step;
    if (step)
      ofStep[step] = index;
    groupOf[i] = index;
    groups[index].tasks.push_back(&nodes[i].task);
    for (size_t node : nodes[i].after)
      if (groupOf[node] != index)
        groups[index].after.insert(groupOf[node]);
  }
  return groups;
}

/// Kahn's algorithm: of the groups that may run next always the first or the last one that was captured.
std::vector<size_t> order(const std::vector<Group> &groups, bool lastFirst) {
  std::vector<size_t> missing, result;
  std::vector<std::vector<size_t>> before(groups.size());
  std::set<size_t> ready;
  for (size_t i = 0; i < groups.size(); ++i) {
    missing.push_back(groups[i].after.size());
    for (size_t earlier : groups[i].after)
      before[earlier].push_back(i);
    if (missing[i] == 0)
      ready.insert(i);
  }
  while (!ready.empty()) {
    size_t next = lastFirst ? *ready.rbegin() : *ready.begin();
    ready.erase(next);
    result.push_back(next);
    for (size_t later : before[next])
      if (--missing[later] == 0)
        ready.insert(later);
  }
  return result;
}

bool conflict(const Step &a, const Step &b) {
  auto beginOf = [](const MoeSimAccess &access) { return static_cast<const std::byte *>(access.address); };
  for (const MoeSimAccess &x : a.accesses)
    for (const MoeSimAccess &y : b.accesses)
      if ((x.access != plan::Operand::READ || y.access != plan::Operand::READ) && beginOf(x) < beginOf(y) + y.bytes &&
          beginOf(y) < beginOf(x) + x.bytes)
        return true;
  return false;
}

/// Steps that touch the same memory, one of them writing, and that no event orders: on a device they may run at once.
/// Orders of whole steps do not show it where they share scratch, or where both write the same.
std::string findUnordered(const std::vector<Group> &groups) {
  std::vector<std::vector<bool>> earlier(groups.size(), std::vector<bool>(groups.size()));
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t direct : groups[i].after) {
      earlier[i][direct] = true;
      for (size_t j = 0; j < direct; ++j)
        earlier[i][j] = earlier[i][j] || earlier[direct][j];
    }
    for (size_t j = 0; j < i; ++j)
      if (!earlier[i][j] && groups[i].step && groups[j].step && conflict(*groups[i].step, *groups[j].step))
        return "steps '" + groups[j].step->name + "' and '" + groups[i].step->name +
               "' touch the same memory, and no event orders them";
  }
  return {};
}

std::string runInOrder(const std::vector<Group> &groups, const std::vector<size_t> &order) {
  for (size_t index : order)
    if (std::string problem = runStep(groups[index].step, groups[index].tasks); !problem.empty())
      return problem;
  return {};
}

using Contents = std::vector<std::vector<std::byte>>;

Contents save() {
  Contents contents;
  for (const Allocation &allocation : deviceMemory())
    contents.emplace_back(allocation.begin, allocation.begin + allocation.bytes);
  return contents;
}

} // namespace

std::string runGraph(const std::vector<GraphNode> &nodes) {
  std::vector<Group> groups = groupsOf(nodes);
  std::vector<size_t> forward = order(groups, false), backward = order(groups, true);
  if (forward.size() != groups.size())
    return "the graph has a cycle";
  if (forward == backward)
    return runInOrder(groups, forward);

  if (std::string problem = findUnordered(groups); !problem.empty())
    return problem;
  Contents before = save();
  Undefined undefinedBefore = undefinedMemory();
  if (std::string problem = runInOrder(groups, backward); !problem.empty())
    return problem;
  Contents after = save();
  for (size_t i = 0; i < before.size(); ++i)
    std::memcpy(deviceMemory()[i].begin, before[i].data(), before[i].size());
  undefinedMemory() = std::move(undefinedBefore);
  if (std::string problem = runInOrder(groups, forward); !problem.empty())
    return problem;
  for (size_t i = 0; i < after.size(); ++i) {
    const Allocation &allocation = deviceMemory()[i];
    auto [found, other] = std::mismatch(after[i].begin(), after[i].end(), allocation.begin);
    if (found != after[i].end())
      return "the result of the graph depends on the order of what no event orders: it differs at " +
             describeAddress(other);
  }
  return {};
}

} // namespace moe::sim
