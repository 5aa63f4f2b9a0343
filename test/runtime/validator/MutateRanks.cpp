//===- MutateRanks.cpp - Damage a plan where ranks meet -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/validator/MutateRanks.h"

#include "runtime/plan/Collectives.h"

#include <algorithm>
#include <random>
#include <vector>

namespace moe::test {
namespace {

using Axes = google::protobuf::RepeatedField<uint32_t>;

struct Found {
  plan::Program *program;
  int step;
  plan::Step &get() const { return *program->mutable_steps(step); }
  std::string name() const { return "\"" + get().name() + "\" of \"" + program->name() + "\""; }
};

class Mutator {
public:
  Mutator(plan::Plan &plan, uint64_t seed) : plan(plan), random(seed) {}

  std::optional<std::string> apply(RankMutationKind kind) {
    switch (kind) {
    case RankMutationKind::ForgetCollective:
      return forget();
    case RankMutationKind::ChangeGroup:
      return changeGroup();
    case RankMutationKind::ReverseGroup:
      return reverseGroup();
    case RankMutationKind::MoveBlocks:
      return moveBlocks();
    case RankMutationKind::SwapCollectives:
      return swapCollectives();
    case RankMutationKind::ChangeReduction:
      return changeReduction();
    }
    return std::nullopt;
  }

private:
  uint64_t below(uint64_t n) { return random() % n; }

  /// All steps that qualify, in order.
  template <typename Qualifies> std::vector<Found> all(Qualifies qualifies) {
    std::vector<Found> found;
    for (plan::Program &program : *plan.mutable_programs())
      for (int i = 0; i < program.steps_size(); ++i)
        if (qualifies(program.steps(i)))
          found.push_back({&program, i});
    return found;
  }
  std::vector<Found> collectives() {
    return all([](const plan::Step &step) { return step.has_collective(); });
  }

  static Axes *axesOf(plan::Step &step) {
    if (step.has_collective())
      return step.mutable_collective()->mutable_axes();
    if (step.has_axis_slice())
      return step.mutable_axis_slice()->mutable_axes();
    return step.has_as_partial() ? step.mutable_as_partial()->mutable_axes() : nullptr;
  }

  std::optional<std::string> forget() {
    std::vector<Found> found = collectives();
    if (found.empty())
      return std::nullopt;
    const Found picked = found[below(found.size())];
    plan::Step &step = picked.get();
    const plan::Collective work = step.collective();
    while (step.operands_size() > (work.in_place() ? 1 : 2)) // scratch
      step.mutable_operands()->RemoveLast();
    std::string what = plan::Collective::Kind_Name(work.kind()) + " " + picked.name() + " is forgotten";
    if (work.kind() == plan::Collective::ALL_GATHER || work.kind() == plan::Collective::REDUCE_SCATTER) {
      const bool pad = work.kind() == plan::Collective::ALL_GATHER;
      plan::AxisSlice &slice = *step.mutable_axis_slice();
      *slice.mutable_axes() = work.axes();
      *slice.mutable_parts() = pad ? work.concat() : work.split();
      slice.set_pad(pad);
    } else if (!work.in_place()) {
      step.mutable_copy();
    } else {
      // Nothing stands in its place; a step that does nothing else keeps its signal and its waits.
      plan::AsPartial &nothing = *step.mutable_as_partial();
      nothing.set_in_place(true);
    }
    return what;
  }

  std::optional<std::string> changeGroup() {
    std::vector<Found> found = all([](const plan::Step &step) {
      return axesOf(const_cast<plan::Step &>(step)) != nullptr; // looks only
    });
    if (found.empty() || plan.mesh_size() < 2)
      return std::nullopt;
    const Found picked = found[below(found.size())];
    Axes &axes = *axesOf(picked.get());
    const auto other = static_cast<uint32_t>(below(static_cast<uint64_t>(plan.mesh_size())));
    if (axes.size() == 1 && axes.Get(0) != other)
      axes.Set(0, other);
    else if (axes.size() > 1)
      axes.RemoveLast();
    else
      return std::nullopt;
    return "the group of " + picked.name() + " is that of other axes";
  }

  std::optional<std::string> reverseGroup() {
    std::vector<Found> found = all([](const plan::Step &step) {
      const Axes *axes = axesOf(const_cast<plan::Step &>(step)); // looks only
      return axes && axes->size() > 1;
    });
    if (below(2) == 0 && plan.mesh_size() > 1 && plan.mesh(0).size() != plan.mesh(1).size()) {
      plan.mutable_mesh()->SwapElements(0, 1);
      return "the axes of the mesh change places";
    }
    if (found.empty())
      return std::nullopt;
    const Found picked = found[below(found.size())];
    std::ranges::reverse(*axesOf(picked.get()));
    return "the ranks of " + picked.name() + " are numbered the other way round";
  }

  std::optional<std::string> moveBlocks() {
    std::vector<Found> found = collectives();
    if (found.empty())
      return std::nullopt;
    const Found picked = found[below(found.size())];
    plan::Step &step = picked.get();
    plan::Slice &slice = *step.mutable_operands(int(below(uint64_t(step.operands_size()))))->mutable_slice();
    if (below(2) == 0) {
      slice.set_offset(slice.offset() + 64);
      return "an operand of " + picked.name() + " starts 64 bytes later";
    }
    std::vector<uint32_t> others;
    for (int i = 0; i < plan.buffers_size(); ++i)
      if (uint32_t(i) != slice.buffer() && plan.buffers(i).bytes() >= slice.offset() + slice.bytes())
        others.push_back(uint32_t(i));
    if (others.empty())
      return std::nullopt;
    slice.set_buffer(others[below(others.size())]);
    return "an operand of " + picked.name() + " is in buffer \"" + plan.buffers(int(slice.buffer())).name() + "\"";
  }

  std::optional<std::string> swapCollectives() {
    std::vector<Found> found = collectives();
    if (found.size() < 2)
      return std::nullopt;
    const size_t at = below(found.size() - 1);
    const Found first = found[at], second = found[at + 1];
    if (first.program != second.program)
      return std::nullopt;
    std::string what = first.name() + " and " + second.name() + " change places";
    first.program->mutable_steps()->SwapElements(first.step, second.step);
    return what;
  }

  std::optional<std::string> changeReduction() {
    std::vector<Found> found =
        all([](const plan::Step &step) { return step.has_collective() && reduces(step.collective()); });
    if (found.empty())
      return std::nullopt;
    const Found picked = found[below(found.size())];
    plan::Collective &work = *picked.get().mutable_collective();
    work.set_reduction(work.reduction() == plan::Collective::SUM ? plan::Collective::MAX : plan::Collective::SUM);
    return picked.name() + " reduces otherwise";
  }

  plan::Plan &plan;
  std::mt19937_64 random;
};

} // namespace

std::optional<std::string> mutateRanks(plan::Plan &plan, RankMutationKind kind, uint64_t seed) {
  constexpr int kAttempts = 20;
  const plan::Plan before = plan;
  Mutator mutator(plan, seed);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (std::optional<std::string> done = mutator.apply(kind))
      return done;
    plan = before;
  }
  return std::nullopt;
}

void renewDigests(plan::Plan &plan) {
  for (plan::Program &program : *plan.mutable_programs())
    program.set_collectives(collectiveDigest(program));
}

} // namespace moe::test
