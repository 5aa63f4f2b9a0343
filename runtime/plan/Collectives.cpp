//===- Collectives.cpp - What a plan's collectives move and need --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Collectives.h"

#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"

#include <algorithm>
#include <vector>
#include <xxhash.h>

namespace moe {

bool reduces(const plan::Collective &collective) {
  return collective.kind() == plan::Collective::ALL_REDUCE || collective.kind() == plan::Collective::REDUCE_SCATTER;
}

uint64_t collectiveOutput(const plan::Collective &collective, uint64_t ranks) {
  auto count = static_cast<uint64_t>(collective.count());
  switch (collective.kind()) {
  case plan::Collective::ALL_GATHER:
    return saturatingProduct(count, ranks);
  case plan::Collective::REDUCE_SCATTER:
    return count / ranks;
  default:
    return count;
  }
}

SummedParts::SummedParts(uint64_t count, uint64_t ranks)
    : count(count), block(count / ranks + (count % ranks != 0 ? 1 : 0)) {}

uint64_t SummedParts::begin(uint64_t rank) const {
  return std::min(saturatingProduct(rank, block), count);
}

uint64_t SummedParts::size(uint64_t rank) const {
  return std::min(block, count - begin(rank));
}

uint64_t collectiveScratchBytes(const plan::Collective &collective, plan::DType dtype, uint64_t ranks) {
  if (ranks <= 1)
    return 0;
  auto count = static_cast<uint64_t>(collective.count());
  bool packs = false, unpacks = false;
  uint64_t block = 0; // elements that one rank sends to another
  switch (collective.kind()) {
  case plan::Collective::ALL_REDUCE:
    block = SummedParts(count, ranks).block;
    break;
  case plan::Collective::ALL_GATHER:
    block = count;
    unpacks = collective.concat().outer() > 1;
    break;
  case plan::Collective::REDUCE_SCATTER:
    block = count / ranks;
    packs = collective.split().outer() > 1;
    break;
  default:
    block = count / ranks;
    packs = collective.split().outer() > 1;
    unpacks = collective.concat().outer() > 1;
    break;
  }
  uint64_t parts = (packs ? 1 : 0) + (unpacks || reduces(collective) ? 1 : 0);
  return saturatingProduct(saturatingProduct(saturatingProduct(block, ranks), parts), elementBytes(dtype));
}

Traffic collectiveTraffic(const plan::Collective &collective, plan::DType dtype, uint64_t ranks) {
  if (ranks <= 1)
    return {};
  const uint64_t others = ranks - 1;
  const auto count = static_cast<uint64_t>(collective.count());
  uint64_t elements = 0, messages = others;
  switch (collective.kind()) {
  case plan::Collective::ALL_REDUCE: {
    const uint64_t own = SummedParts(count, ranks).size(0);
    elements = saturatingSum(count - own, saturatingProduct(own, others));
    messages = saturatingProduct(others, 2);
    break;
  }
  case plan::Collective::ALL_GATHER:
    elements = saturatingProduct(count, others);
    break;
  default:
    elements = saturatingProduct(count / ranks, others);
    break;
  }
  return {saturatingProduct(elements, elementBytes(dtype)), messages};
}

bool isExposed(const plan::Program &program, int step) {
  const plan::Step &collective = program.steps(step);
  for (int i = step + 1; i < program.steps_size(); ++i) {
    const plan::Step &other = program.steps(i);
    if (other.lane() == collective.lane())
      continue;
    return collective.signal() != 0 && std::ranges::find(other.waits(), collective.signal()) != other.waits().end();
  }
  return true;
}

uint64_t collectiveDigest(const plan::Program &program) {
  // Fields, not the serialised message: what protobuf writes may change with its version.
  std::vector<uint64_t> words;
  auto add = [&](auto value) { words.push_back(static_cast<uint64_t>(value)); };
  auto addAxes = [&](const AxisList &axes) {
    add(axes.size());
    for (uint32_t axis : axes)
      add(axis);
  };
  for (const plan::Step &step : program.steps()) {
    if (!step.has_collective())
      continue;
    const plan::Collective &work = step.collective();
    add(work.kind());
    add(work.reduction());
    addAxes(work.axes());
    add(work.count());
    add(work.split().outer());
    add(work.split().inner());
    add(work.concat().outer());
    add(work.concat().inner());
    add(step.operands_size() > 0 ? step.operands(0).dtype() : plan::DTYPE_UNSPECIFIED);
    // Two tensors of one size would change places unnoticed, a parameter and its moment for one.
    for (const plan::Operand &operand : step.operands()) {
      add(operand.slice().buffer());
      add(operand.slice().offset());
      add(operand.slice().bytes());
    }
  }
  if (words.empty())
    return 0;
  // Which rank takes which part decides what it sends. These steps have no order among the collectives.
  uint64_t parts = 0;
  for (const plan::Step &step : program.steps()) {
    if (!step.has_axis_slice() && !step.has_as_partial())
      continue;
    const AxisList &axes = step.has_axis_slice() ? step.axis_slice().axes() : step.as_partial().axes();
    parts += XXH3_64bits_withSeed(axes.data(), static_cast<size_t>(axes.size()) * sizeof(uint32_t),
                                  static_cast<uint64_t>(step.work_case()));
  }
  add(parts);
  return XXH3_64bits(words.data(), words.size() * sizeof(uint64_t));
}

} // namespace moe
