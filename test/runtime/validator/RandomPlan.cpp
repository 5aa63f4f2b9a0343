//===- RandomPlan.cpp - Valid plans of any size -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/RandomPlan.h"

#include "test/runtime/validator/PlanBuilder.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace moe::test {
namespace {

class Generator {
public:
  Generator(uint64_t seed, const RandomPlanOptions &options)
      : options(options), random(seed), after(options.steps, std::vector<bool>(options.steps, false)),
        lastOfLane(options.lanes, -1) {}

  plan::Plan run() {
    persistentBytes = uint64_t(options.largest) * options.unit;
    uint32_t stateArena = builder.arena(plan::Arena::STATE, 2 * persistentBytes);
    uint32_t stagingArena = builder.arena(plan::Arena::STAGING, persistentBytes);
    stepArena = builder.arena(plan::Arena::STEP, 0);
    addBuffer("state0", stateArena, 0, persistentBytes);
    addBuffer("state1", stateArena, persistentBytes, persistentBytes);
    addBuffer("staging", stagingArena, 0, persistentBytes);
    plan::Program &program = builder.program("micro_step");
    for (int s = 0; s < options.steps; ++s)
      addStep(program, s);
    for (uint32_t value : values)
      if (below(6) == 0 || value == values.back())
        outputs.push_back(value);
    plan::Plan plan = builder.finish();
    isOutput.assign(sizes.size(), false);
    for (uint32_t value : outputs) {
      isOutput[value] = true;
      plan::Output &output = *plan.mutable_programs(0)->add_outputs();
      output.set_name("out" + std::to_string(value));
      output.set_dtype(plan::BOOL);
      output.add_shape(int64_t(sizes[value]));
      output.mutable_slice()->set_buffer(value);
      output.mutable_slice()->set_bytes(sizes[value]);
    }
    place(plan);
    return plan;
  }

private:
  uint64_t below(uint64_t n) { return random() % n; }

  uint32_t addBuffer(const std::string &name, uint32_t arena, uint64_t offset, uint64_t bytes) {
    sizes.push_back(bytes);
    users.emplace_back();
    writers.emplace_back();
    return builder.buffer(name, arena, offset, bytes);
  }
  uint32_t addValue(const std::string &name) {
    return addBuffer(name, stepArena, 0, (1 + below(uint64_t(options.largest))) * options.unit);
  }

  bool before(int a, int b) const { return a == b || after[b][a]; }
  /// Orders step `a` before step `b`, the latest so far.
  void order(int a, int b) {
    after[b][a] = true;
    for (int s = 0; s < a; ++s)
      if (after[a][s])
        after[b][s] = true;
  }

  void addStep(plan::Program &program, int s) {
    uint32_t lane = uint32_t(below(uint64_t(options.lanes)));
    if (lastOfLane[lane] >= 0)
      order(lastOfLane[lane], s);
    lastOfLane[lane] = s;
    plan::Step &step = PlanBuilder::step(program, "s" + std::to_string(s), lane, {});

    // What this step touches: buffer -> whether it writes. Each buffer once, so that no step conflicts with itself.
    std::map<uint32_t, bool> touched;
    auto use = [&](uint32_t buffer, plan::Operand::Access access, uint64_t offset, uint64_t bytes) {
      *step.add_operands() = operand(access, buffer, offset, bytes);
      touched.emplace(buffer, access != plan::Operand::READ);
    };
    for (uint64_t i = below(4); i > 0 && !values.empty(); --i) {
      // Mostly recent values, so that lifetimes end.
      uint64_t recent = std::min<uint64_t>(values.size(), 6);
      uint32_t value = values[values.size() - 1 - below(recent)];
      if (touched.count(value) != 0)
        continue;
      if (below(6) == 0) {
        use(value, plan::Operand::READ_WRITE, 0, sizes[value]);
        continue;
      }
      uint64_t skip = below(sizes[value] / options.unit) * options.unit;
      use(value, plan::Operand::READ, skip, sizes[value] - skip);
    }
    if (below(3) == 0)
      use(uint32_t(below(3)), plan::Operand::READ, 0, persistentBytes);
    else if (below(6) == 0) {
      auto access = below(2) == 0 ? plan::Operand::WRITE : plan::Operand::READ_WRITE;
      use(uint32_t(below(2)), access, 0, persistentBytes);
    }
    std::string name = "v" + std::to_string(s);
    if (below(4) == 0) {
      uint32_t scratch = addValue(name + ".scratch");
      use(scratch, plan::Operand::SCRATCH, 0, sizes[scratch]);
    }
    uint32_t value = addValue(name);
    uint64_t cut = below(4) == 0 ? below(sizes[value] / options.unit) * options.unit : 0;
    if (cut != 0)
      use(value, plan::Operand::WRITE, 0, cut);
    use(value, plan::Operand::WRITE, cut, sizes[value] - cut);
    values.push_back(value);

    for (auto [buffer, writes] : touched) {
      for (int other : writes ? users[buffer] : writers[buffer])
        waitFor(program, step, other, s);
      users[buffer].push_back(s);
      if (writes)
        writers[buffer].push_back(s);
    }
  }

  void waitFor(plan::Program &program, plan::Step &step, int other, int s) {
    if (before(other, s))
      return;
    plan::Step &raiser = *program.mutable_steps(other);
    if (raiser.signal() == 0) {
      program.set_signals(program.signals() + 1);
      raiser.set_signal(program.signals());
    }
    step.add_waits(raiser.signal());
    order(other, s);
  }

  /// Whether every use of `a` comes before every use of `b`.
  bool dead(uint32_t a, uint32_t b) const {
    return std::all_of(users[a].begin(), users[a].end(), [&](int x) {
      return std::all_of(users[b].begin(), users[b].end(), [&](int y) { return x != y && before(x, y); });
    });
  }
  bool mayShare(uint32_t a, uint32_t b) const { return (!isOutput[a] && dead(a, b)) || (!isOutput[b] && dead(b, a)); }

  /// Largest first, each at the lowest offset that no buffer alive at the same time takes.
  void place(plan::Plan &plan) {
    std::vector<uint32_t> order;
    for (uint32_t b = 0; b < uint32_t(plan.buffers_size()); ++b)
      if (plan.buffers(int(b)).arena() == stepArena)
        order.push_back(b);
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return std::pair(sizes[b], a) < std::pair(sizes[a], b); });
    std::vector<uint32_t> placed;
    uint64_t high = 0;
    for (uint32_t b : order) {
      std::vector<std::pair<uint64_t, uint64_t>> taken;
      for (uint32_t other : placed)
        if (!mayShare(b, other))
          taken.emplace_back(plan.buffers(int(other)).offset(), plan.buffers(int(other)).offset() + sizes[other]);
      std::sort(taken.begin(), taken.end());
      uint64_t offset = 0;
      for (auto [begin, end] : taken) {
        if (offset + sizes[b] <= begin)
          break;
        offset = std::max(offset, end);
      }
      plan.mutable_buffers(int(b))->set_offset(offset);
      placed.push_back(b);
      high = std::max(high, offset + sizes[b]);
    }
    plan.mutable_arenas(int(stepArena))->set_bytes(high);
    for (plan::Certificate::Class &entry : *plan.mutable_certificate()->mutable_classes())
      if (entry.name() == "step")
        entry.set_bytes(high);
    plan.mutable_certificate()->set_total(plan.certificate().total() + high);
  }

  RandomPlanOptions options;
  std::mt19937_64 random;
  PlanBuilder builder;
  uint64_t persistentBytes = 0;
  uint32_t stepArena = 0;
  std::vector<uint64_t> sizes;           ///< by buffer
  std::vector<std::vector<int>> users;   ///< by buffer: steps that touch it
  std::vector<std::vector<int>> writers; ///< by buffer: steps that write it
  std::vector<uint32_t> values, outputs; ///< buffers
  std::vector<bool> isOutput;            ///< by buffer
  std::vector<std::vector<bool>> after;  ///< [step][earlier step]
  std::vector<int> lastOfLane;
};

} // namespace

plan::Plan randomPlan(uint64_t seed, const RandomPlanOptions &options) {
  return Generator(seed, options).run();
}

} // namespace moe::test
