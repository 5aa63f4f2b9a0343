//===- declared_slices.cpp - Every declaration of a real plan is needed -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
//   declared_slices PLAN
//
// The steps of a plan for the simulated device run one by one. Before each, the same step runs with one of its operands
// declared wrongly: not at all, four bytes too short, read only where it is written, overwritten where it is added to.
// The device must notice. What a step touches depends on data (rows of experts that got few tokens, slots of tokens
// that no expert took), so a mutant that it does not notice runs again with many other contents. Those that it never
// notices are listed by kind of step and operand. They must be of three kinds, in which nothing is wrong:
//
//  * too short, READ, where the step takes a part of a tensor that is declared whole (the first choices of each token,
//    the first of two counters): the last element is not in that part;
//  * too short, READ, integers of 64 bits that are used as indexes only: kernels index with the lower 32;
//  * overwritten, where an integer stays as it is in place: garbage goes in and comes out, as if nothing had been
//    written.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Steps.h"
#include "runtime/plan/StepKind.h"
#include "test/e2e/support/SimulatedPlan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <set>

using namespace moe;
using test::require;
using test::start;

namespace {

struct Mutation {
  const char *name;
  double least;                               ///< share of the mutants that must be noticed
  std::function<bool(plan::Operand &)> apply; ///< false: does not apply
};

const Mutation mutations[] = {
    {"not declared", 1,
     [](plan::Operand &operand) {
       operand.mutable_slice()->set_bytes(0);
       return true;
     }},
    {"too short", 0.98,
     [](plan::Operand &operand) {
       operand.mutable_slice()->set_bytes(operand.slice().bytes() - std::min<uint64_t>(4, operand.slice().bytes()));
       return operand.slice().bytes() > 0;
     }},
    {"read only", 1,
     [](plan::Operand &operand) {
       bool isRead = operand.access() == plan::Operand::READ;
       operand.set_access(plan::Operand::READ);
       return !isRead;
     }},
    {"overwritten", 0.98,
     [](plan::Operand &operand) {
       bool isSum = operand.access() == plan::Operand::READ_WRITE;
       operand.set_access(plan::Operand::WRITE);
       return isSum;
     }},
};

/// Whether the size of the operand says what the step does, so that a mutant does something else and nothing wrong.
bool isMeasure(const plan::Step &step, int operand) {
  return step.has_fill() || (step.has_copy() && operand < 2);
}

struct Mutant {
  std::string what; ///< "gemm: operand 4 (SCRATCH) not declared"
  const Mutation *mutation = nullptr;
  int step = 0; ///< of the listing
};

/// The steps of some programs in order, as programs of one step each, mutants before what they come from.
struct Listing {
  plan::Plan plan;
  std::map<int, Mutant> mutants; ///< by program
};

void addProgram(plan::Plan &plan, const plan::Step &step) {
  plan::Program &program = *plan.add_programs();
  program.set_name(std::to_string(plan.programs_size()));
  plan::Step &copy = *program.add_steps() = step;
  copy.set_lane(0);
  copy.clear_waits();
  copy.clear_signal();
}

Listing listSteps(const plan::Plan &plan) {
  Listing listing;
  listing.plan = plan;
  listing.plan.clear_programs();
  listing.plan.clear_metrics();
  for (const plan::Program &program : plan.programs())
    if (program.name() == "micro_step" || program.name() == "update")
      for (const plan::Step &step : program.steps()) {
        int first = listing.plan.programs_size();
        for (int i = 0; i < step.operands_size(); ++i)
          for (const Mutation &mutation : mutations) {
            plan::Step mutant = step;
            if (isMeasure(step, i) || !mutation.apply(*mutant.mutable_operands(i)))
              continue;
            std::string access = plan::Operand::Access_Name(step.operands(i).access());
            listing.mutants[listing.plan.programs_size()] = {.what = std::string(stepKind(step)) + ": operand " +
                                                                     std::to_string(i) + " (" + access + ") " +
                                                                     mutation.name,
                                                             .mutation = &mutation};
            addProgram(listing.plan, mutant);
          }
        for (int mutant = first; mutant < listing.plan.programs_size(); ++mutant)
          listing.mutants[mutant].step = listing.plan.programs_size();
        addProgram(listing.plan, step);
      }
  return listing;
}

using Contents = std::vector<std::vector<std::byte>>;

Contents readAll(const Device &device, const plan::Step &step) {
  Contents contents;
  for (const plan::Operand &operand : step.operands())
    require(device.read(operand.slice(), contents.emplace_back(operand.slice().bytes())));
  return contents;
}

/// Contents that every step takes: numbers around zero, indexes that exist everywhere or mean none.
Contents drawAll(const plan::Step &step, std::mt19937 &random) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  // Small ones, with or without "none", and the last of a dimension of some operand or of twice its size: what indexes
  // point to may have that many rows, or that many for each of two choices.
  const plan::Operand &indexed = step.operands(static_cast<int>(random() % step.operands_size()));
  int64_t size = indexed.shape().empty() ? 2 : indexed.shape(static_cast<int>(random() % indexed.shape_size()));
  const std::array<int64_t, 4> largest = {1, 2, size - 1, 2 * size - 1};
  const std::array<int64_t, 3> choices = {0, largest[random() % 4], random() % 2 == 0 ? -1 : 0};
  auto index = [&] { return choices[random() % 3]; };
  Contents contents;
  for (const plan::Operand &operand : step.operands()) {
    std::vector<std::byte> &bytes = contents.emplace_back(operand.slice().bytes());
    auto draw = [&](auto value) {
      std::vector<decltype(value())> values(bytes.size() / sizeof(value()));
      std::ranges::generate(values, value);
      std::memcpy(bytes.data(), values.data(), values.size() * sizeof(value()));
    };
    switch (operand.dtype()) {
    case plan::F32:
      draw([&] { return uniform(random); });
      break;
    case plan::I64:
      draw(index);
      break;
    case plan::I32:
      draw([&] { return static_cast<int32_t>(index()); });
      break;
    default:
      draw([&] { return static_cast<uint8_t>(random() % 2); });
    }
  }
  return contents;
}

void writeAll(Device &device, const plan::Step &step, const Contents &contents) {
  for (int i = 0; i < step.operands_size(); ++i)
    require(device.write(step.operands(i).slice(), contents[i]));
}

/// Is the mutant noticed with contents of other kinds than those of a training step, which the step itself takes?
bool isNoticedElsewhere(Device &device, const plan::Step &step, int original, int mutant) {
  constexpr int attempts = 256;
  std::mt19937 random(mutant);
  for (int attempt = 0; attempt < attempts; ++attempt) {
    Contents contents = drawAll(step, random);
    writeAll(device, step, contents);
    if (!device.run(original))
      continue;
    writeAll(device, step, contents);
    if (!device.run(mutant))
      return true;
  }
  return false;
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
  Listing listing = listSteps(file->plan);
  file->plan = listing.plan;
  std::unique_ptr<Device> device = start(*file);

  std::map<std::string, std::set<std::string>> survivors;       // names of steps
  std::map<const Mutation *, std::pair<size_t, size_t>> counts; // noticed, of all
  for (int program = 0; program < file->plan.programs_size(); ++program) {
    auto mutant = listing.mutants.find(program);
    if (mutant == listing.mutants.end()) {
      require(device->run(program));
      continue;
    }
    const plan::Step &step = file->plan.programs(mutant->second.step).steps(0);
    Contents before = readAll(*device, step);
    bool survives = device->run(program).has_value();
    if (survives && !cuda::hasIndex(step))
      survives = !isNoticedElsewhere(*device, step, mutant->second.step, program);
    if (survives)
      survivors[mutant->second.what].insert(step.name());
    auto &[noticed, all] = counts[mutant->second.mutation];
    noticed += !survives;
    ++all;
    if (!cuda::hasIndex(step)) {
      writeAll(*device, step, before);
      continue;
    }
    // The device does not forget that an index was out of range.
    device = start(*file);
    for (int earlier = 0; earlier < program; ++earlier)
      if (!listing.mutants.contains(earlier))
        require(device->run(earlier));
  }
  for (const auto &[what, names] : survivors) {
    std::cout << "not noticed: " << what << ":";
    for (const std::string &name : names)
      std::cout << " " << name;
    std::cout << "\n";
  }
  bool enough = true;
  for (const Mutation &mutation : mutations) {
    auto [noticed, all] = counts[&mutation];
    bool isRight = all > 0 && static_cast<double>(noticed) >= mutation.least * static_cast<double>(all);
    enough &= isRight;
    std::cout << (isRight ? "ok   " : "FAIL ") << mutation.name << ": " << noticed << " of " << all << " noticed\n";
  }
  return enough ? 0 : 1;
}
