//===- dropped_events.cpp - Every event between the lanes of a real plan is needed --------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
//   dropped_events PLAN
//
// Deals the steps of a plan for the simulated device out to two lanes in turn, with as few waits between them as keep
// the order of steps that touch the same memory, one of which writes it. The update must run as one graph, whatever is
// first of what no event orders; with any one of the waits left out the device must notice.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/e2e/support/SimulatedPlan.h"

#include <array>
#include <iostream>

using namespace moe;

namespace {

/// Bytes of an arena that a step touches.
struct Touch {
  uint32_t arena;
  uint64_t begin, end;
  bool writes;
};

std::vector<Touch> touchesOf(const plan::Plan &plan, const plan::Step &step) {
  std::vector<Touch> touches;
  for (const plan::Operand &operand : step.operands()) {
    const plan::Buffer &buffer = plan.buffers(static_cast<int>(operand.slice().buffer()));
    uint64_t begin = buffer.offset() + operand.slice().offset();
    touches.push_back({static_cast<uint32_t>(buffer.arena()), begin, begin + operand.slice().bytes(),
                       operand.access() != plan::Operand::READ});
  }
  return touches;
}

bool conflict(const std::vector<Touch> &a, const std::vector<Touch> &b) {
  for (const Touch &x : a)
    for (const Touch &y : b)
      if ((x.writes || y.writes) && x.arena == y.arena && x.begin < y.end && y.begin < x.end)
        return true;
  return false;
}

/// Step i goes to lane i mod 2. It waits for the last step of the other lane that it conflicts with, unless a step of
/// its own lane has waited for that one or a later one.
void dealOut(const plan::Plan &plan, plan::Program &program) {
  std::vector<std::vector<Touch>> touches;
  for (const plan::Step &step : program.steps())
    touches.push_back(touchesOf(plan, step));
  std::array<int, 2> awaited = {-1, -1};
  for (int i = 0; i < program.steps_size(); ++i) {
    plan::Step &step = *program.mutable_steps(i);
    step.set_lane(static_cast<uint32_t>(i % 2));
    step.set_signal(static_cast<uint32_t>(i + 1));
    step.clear_waits();
    int last = i - 1;
    while (last > awaited[i % 2] && !conflict(touches[last], touches[i]))
      last -= 2;
    if (last <= awaited[i % 2])
      continue;
    awaited[i % 2] = last;
    step.add_waits(static_cast<uint32_t>(last + 1));
  }
  program.set_signals(static_cast<uint32_t>(program.steps_size()));
}

/// Two updates: the first one step by step, the second as a graph.
Status train(const PlanFile &file, const std::vector<int> &programs) {
  std::unique_ptr<Device> device = test::start(file);
  for (int update = 0; update < 2; ++update)
    if (Status status = device->runSequence(programs, [](int) {}); !status)
      return status;
  return {};
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 2)
    return 2;
  auto file = PlanFile::read(argv[1]);
  if (!file) {
    std::cerr << file.error().str() << "\n";
    return 1;
  }
  std::vector<int> programs;
  for (const char *name : {"micro_step", "update"})
    for (int p = 0; p < file->plan.programs_size(); ++p)
      if (plan::Program &program = *file->plan.mutable_programs(p); program.name() == name) {
        dealOut(file->plan, program);
        programs.push_back(p);
      }
  test::require(train(*file, programs));

  int events = 0, missed = 0;
  for (int p : programs)
    for (plan::Step &step : *file->plan.mutable_programs(p)->mutable_steps()) {
      if (step.waits().empty())
        continue;
      const uint32_t wait = step.waits(0);
      step.clear_waits();
      if (train(*file, programs)) {
        std::cout << "not noticed: " << step.name() << " does not wait for "
                  << file->plan.programs(p).steps(static_cast<int>(wait) - 1).name() << "\n";
        ++missed;
      }
      step.add_waits(wait);
      ++events;
    }
  std::cout << events << " events dropped, " << missed << " not noticed\n";
  return events > 0 && missed == 0 ? 0 : 1;
}
