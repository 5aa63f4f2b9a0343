//===- Oracle.cpp - Run a tiny program in all legal orders, byte by byte ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/Oracle.h"

#include "test/runtime/validator/LegalOrders.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

namespace moe::test {
namespace {

constexpr int kGarbage = -1, kInitial = -2;

struct Byte {
  int owner = kGarbage; ///< buffer
  int writer = -1;      ///< step
  std::set<int> readers;
  bool operator==(const Byte &) const = default;
};
using Memory = std::vector<std::vector<Byte>>;

bool overlap(const plan::Plan &plan, const plan::Slice &a, const plan::Slice &b) {
  const plan::Buffer &bufferA = plan.buffers(int(a.buffer())), &bufferB = plan.buffers(int(b.buffer()));
  uint64_t beginA = bufferA.offset() + a.offset(), beginB = bufferB.offset() + b.offset();
  return bufferA.arena() == bufferB.arena() && beginA < beginB + b.bytes() && beginB < beginA + a.bytes();
}

class Machine {
public:
  Machine(const plan::Plan &plan, const plan::Program &program) : plan(plan), program(program) {
    for (const plan::Arena &arena : plan.arenas()) {
      Byte fresh;
      fresh.owner = arena.class_() == plan::Arena::STEP ? kGarbage : kInitial;
      memory.emplace_back(arena.bytes(), fresh);
    }
  }

  std::string run(const std::vector<int> &order) {
    seen.assign(program.steps_size(), {});
    for (int s : order) {
      const plan::Step &step = program.steps(s);
      for (const plan::Operand &operand : step.operands())
        for (uint64_t i = 0; i < operand.slice().bytes(); ++i) {
          const Byte &byte = at(operand.slice(), i);
          Byte observed = byte;
          if (operand.access() == plan::Operand::READ)
            observed.readers.clear(); // readers may pass each other
          seen[s].push_back(observed);
          bool reads = operand.access() == plan::Operand::READ || operand.access() == plan::Operand::READ_WRITE;
          if (reads && !holds(operand.slice(), byte))
            return "step " + std::to_string(s) + " reads what it must not";
        }
      for (const plan::Operand &operand : step.operands())
        for (uint64_t i = 0; i < operand.slice().bytes(); ++i) {
          Byte &byte = at(operand.slice(), i);
          if (operand.access() == plan::Operand::READ)
            byte.readers.insert(s);
          else
            byte = Byte{operand.access() == plan::Operand::SCRATCH ? kGarbage : int(operand.slice().buffer()), s, {}};
        }
    }
    for (const plan::Output &output : program.outputs())
      for (uint64_t i = 0; i < output.slice().bytes(); ++i)
        if (!holds(output.slice(), at(output.slice(), i)))
          return "output " + output.name() + " is lost";
    for (int a = 0; a < plan.arenas_size(); ++a)
      if (plan.arenas(a).class_() != plan::Arena::STEP)
        for (const Byte &byte : memory[a])
          if (byte.owner == kGarbage)
            return "garbage is left in arena " + std::to_string(a);
    return {};
  }

  std::vector<std::vector<Byte>> seen; ///< by step: bytes before it ran

private:
  Byte &at(const plan::Slice &slice, uint64_t i) {
    const plan::Buffer &buffer = plan.buffers(int(slice.buffer()));
    return memory[buffer.arena()][buffer.offset() + slice.offset() + i];
  }
  bool holds(const plan::Slice &slice, const Byte &byte) const {
    bool persistent = plan.arenas(int(plan.buffers(int(slice.buffer())).arena())).class_() != plan::Arena::STEP;
    return persistent ? byte.owner != kGarbage : byte.owner == int(slice.buffer());
  }

  const plan::Plan &plan;
  const plan::Program &program;
  Memory memory;
};

} // namespace

std::string bruteForce(const plan::Plan &plan, int index) {
  const plan::Program &program = plan.programs(index);
  for (const plan::Step &step : program.steps())
    for (int a = 0; a < step.operands_size(); ++a)
      for (int b = 0; b < a; ++b)
        if ((step.operands(a).access() != plan::Operand::READ || step.operands(b).access() != plan::Operand::READ) &&
            overlap(plan, step.operands(a).slice(), step.operands(b).slice()))
          return "step \"" + step.name() + "\" conflicts with itself";
  std::vector<std::vector<Byte>> first;
  for (const std::vector<int> &order : allLegalOrders(program)) {
    Machine machine(plan, program);
    std::string fault = machine.run(order);
    if (!fault.empty())
      return fault;
    if (first.empty())
      first = machine.seen;
    if (machine.seen != first)
      return "steps see other bytes in another order";
  }
  return {};
}

} // namespace moe::test
