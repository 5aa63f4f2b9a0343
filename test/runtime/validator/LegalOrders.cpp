//===- LegalOrders.cpp - Orders in which a program may run --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/LegalOrders.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace moe::test {
namespace {

/// Lanes as queues, and which of their heads may start.
class Lanes {
public:
  explicit Lanes(const plan::Program &program) : program(program) {
    std::map<uint32_t, std::vector<int>> byLane;
    for (int s = 0; s < program.steps_size(); ++s)
      byLane[program.steps(s).lane()].push_back(s);
    for (auto &[lane, steps] : byLane)
      queues.push_back(std::move(steps));
    heads.assign(queues.size(), 0);
  }

  int size() const { return int(queues.size()); }
  bool done() const { return int(order.size()) == program.steps_size(); }
  bool ready(int lane) const {
    if (heads[lane] == queues[lane].size())
      return false;
    const plan::Step &step = program.steps(queues[lane][heads[lane]]);
    return std::all_of(step.waits().begin(), step.waits().end(),
                       [&](uint32_t signal) { return raised.count(signal) != 0; });
  }
  void start(int lane) {
    int step = queues[lane][heads[lane]++];
    order.push_back(step);
    raised.insert(program.steps(step).signal());
  }
  void undo(int lane) {
    raised.erase(raised.find(program.steps(order.back()).signal()));
    order.pop_back();
    --heads[lane];
  }

  std::vector<int> order;

private:
  const plan::Program &program;
  std::vector<std::vector<int>> queues;
  std::vector<std::size_t> heads;
  std::multiset<uint32_t> raised;
};

/// Always runs the first lane of `choose(ready lanes)` that is ready; empty if the program deadlocks.
std::vector<int> runBy(const plan::Program &program, const std::function<int(const std::vector<int> &)> &choose) {
  Lanes lanes(program);
  while (!lanes.done()) {
    std::vector<int> ready;
    for (int lane = 0; lane < lanes.size(); ++lane)
      if (lanes.ready(lane))
        ready.push_back(lane);
    if (ready.empty())
      return {};
    lanes.start(choose(ready));
  }
  return lanes.order;
}

} // namespace

std::vector<std::vector<int>> legalOrders(const plan::Program &program, int n, uint64_t seed) {
  std::vector<std::vector<int>> orders;
  std::set<std::vector<int>> seen;
  auto keep = [&](std::vector<int> order) {
    if (int(orders.size()) < n && int(order.size()) == program.steps_size() && seen.insert(order).second)
      orders.push_back(std::move(order));
  };
  int lanes = Lanes(program).size();
  for (int favourite = 0; favourite < lanes; ++favourite) {
    keep(runBy(program, [&](const std::vector<int> &ready) {
      return std::count(ready.begin(), ready.end(), favourite) != 0 ? favourite : ready.front();
    }));
    keep(runBy(program, [&](const std::vector<int> &ready) {
      return ready.back() == favourite && ready.size() > 1 ? ready[ready.size() - 2] : ready.back();
    }));
  }
  std::mt19937_64 random(seed);
  if (lanes > 1)
    for (int i = 0; i < 4 * n && int(orders.size()) < n; ++i)
      keep(runBy(program, [&](const std::vector<int> &ready) { return ready[random() % ready.size()]; }));
  return orders;
}

std::vector<std::vector<int>> allLegalOrders(const plan::Program &program) {
  std::vector<std::vector<int>> orders;
  Lanes lanes(program);
  std::function<void()> extend = [&] {
    if (lanes.done())
      orders.push_back(lanes.order);
    for (int lane = 0; lane < lanes.size(); ++lane) {
      if (!lanes.ready(lane))
        continue;
      lanes.start(lane);
      extend();
      lanes.undo(lane);
    }
  };
  extend();
  return orders;
}

} // namespace moe::test
