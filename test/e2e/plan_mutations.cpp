//===- plan_mutations.cpp - Damage a real plan, many times --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
//   plan_mutations PLAN COUNT
//
// Each mutant of the compiled plan is rejected by the validator, or it is harmless: in whatever legal order its steps
// run and whatever dead memory holds, it computes the same bits, on all ranks if the plan has several, and leaves the
// copies of a parameter equal. A mutant that is neither is an error of the validator. Mutants run in processes of their
// own, since nothing says that they end well.
//
// Of a plan for several ranks every second mutant is damaged where ranks meet. All ranks have it, as if the compiler
// had the bug; and if a single one had it, it would be refused at the start, where ranks compare their plans: the two
// differ.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/StateInit.h"
#include "runtime/comm/ThreadRanks.h"
#include "runtime/core/Session.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Validator.h"
#include "test/runtime/validator/LegalOrders.h"
#include "test/runtime/validator/Mutate.h"
#include "test/runtime/validator/MutateRanks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iostream>
#include <map>
#include <mutex>
#include <random>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace moe;
using namespace moe::test;

namespace {

constexpr int kUpdates = 2;
constexpr int kOrders = 4;
/// Seconds for which a rank waits for the others.
constexpr double kDeadline = 20;
/// Precedes the error of a plan that is refused before anything of it has run.
constexpr std::string_view kRefused = "refused: ";
/// Where a copy reads may be a number in memory, which no validator knows: the executor looks before it copies. So ends
/// a plan without the step that sets the count of micro-batches back to zero, in the order that is listed; in another
/// order alone, or only with poison, it would be a race or a read of garbage.
constexpr std::string_view kStopped = "error: a copy reads beyond its source";

/// What every second mutation of a plan is that has several lanes.
constexpr std::array kOfLanes = {MutationKind::DropWait, MutationKind::DelayWait, MutationKind::ChangeLane,
                                 MutationKind::SwapSteps};

/// Bits that a run leaves, or why it did not end.
struct Result {
  std::string bits;
  std::string error;

  bool operator==(const Result &) const = default;
};

/// The plan with each program in one lane, its steps in the order that `choice` picks among the legal ones.
plan::Plan inOrder(const plan::Plan &plan, int choice) {
  plan::Plan result = plan;
  for (plan::Program &program : *result.mutable_programs()) {
    std::vector<std::vector<int>> orders = legalOrders(program, kOrders, 1);
    plan::Program listed = program;
    program.clear_steps();
    program.set_signals(0);
    for (int step : orders[size_t(choice) % orders.size()]) {
      plan::Step &copy = *program.add_steps() = listed.steps(step);
      copy.set_lane(0);
      copy.clear_waits();
      copy.clear_signal();
    }
  }
  return result;
}

/// The most orders that a program of the plan has, at most kOrders; 0 if one deadlocks.
int countOrders(const plan::Plan &plan) {
  size_t most = 1;
  for (const plan::Program &program : plan.programs()) {
    size_t orders = legalOrders(program, kOrders, 1).size();
    if (orders == 0)
      return 0;
    most = std::max(most, orders);
  }
  return int(most);
}

void append(std::string &bits, std::span<const std::byte> bytes) {
  bits.append(reinterpret_cast<const char *>(bytes.data()), bytes.size());
}

/// Fills the inputs with tokens, and labels with others, the same ones for the same `round` and rank.
void stageTokens(Session &session, int round) {
  std::mt19937_64 random{uint64_t(round) + 1000 * uint64_t(session.rank())};
  for (const plan::Input &input : session.plan().inputs()) {
    std::span<std::byte> bytes = session.bytes(input.staging());
    for (size_t at = 0; at + sizeof(int64_t) <= bytes.size(); at += sizeof(int64_t)) {
      int64_t token = 4 + int64_t(random() % uint64_t(std::max<int64_t>(input.vocabulary() - 4, 1)));
      std::memcpy(bytes.data() + at, &token, sizeof(token));
    }
  }
}

Status runProgram(Session &session, const char *name) {
  int index = session.programIndex(name);
  return index < 0 ? Status() : session.run(index);
}

/// What a rank leaves.
struct Bits {
  std::string all;
  std::vector<std::string> state; ///< of each state tensor; empty if it is not checkpointed
};

/// The axes along which ranks have other parts of a tensor.
std::vector<uint32_t> splitAlong(const plan::StateTensor &tensor) {
  std::vector<uint32_t> axes(tensor.flat().axes().begin(), tensor.flat().axes().end());
  for (const plan::AxisLayout &layout : tensor.layout())
    if (layout.kind() != plan::AxisLayout::REPLICATE)
      axes.push_back(layout.axis());
  return axes;
}

/// An error if ranks that have the same part of a tensor have other bits.
Status compareCopies(const plan::Plan &plan, const std::vector<Bits> &ranks) {
  for (int i = 0; i < plan.state_size(); ++i) {
    std::map<std::vector<int64_t>, const std::string *> first;
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      std::vector<int64_t> coordinates = coordinatesOf(plan, int64_t(rank)), part;
      for (uint32_t axis : splitAlong(plan.state(i)))
        part.push_back(coordinates[axis]);
      const std::string &bits = ranks[rank].state[size_t(i)];
      if (*first.try_emplace(part, &bits).first->second != bits)
        return error("the copies of '" + plan.state(i).name() + "' have drifted apart");
    }
  }
  return {};
}

/// Two updates and each of the other programs; all metrics after each, all outputs, all state at the end.
Expected<Bits> computeBits(PlanFile file, bool poison, Communicator *communicator) {
  SessionOptions options;
  options.poison = poison;
  options.communicator = communicator;
  auto session = Session::create(std::move(file), options);
  if (!session) {
    session.error().what = std::string(kRefused) + session.error().what;
    return tl::unexpected(session.error());
  }
  Session &run = **session;
  const plan::Plan &plan = run.plan();
  if (Status status = initialiseState(run, StateSources{.seed = 1}); !status)
    return tl::unexpected(status.error());
  std::string bits;
  auto addMetrics = [&](const char *program) {
    for (int i = 0; i < plan.metrics_size(); ++i)
      if (plan.metrics(i).program() == program) {
        double value = run.metric(i);
        append(bits, std::as_bytes(std::span(&value, 1)));
      }
  };
  for (int update = 0; update < kUpdates; ++update) {
    stageTokens(run, update);
    for (int64_t micro = 0; micro < plan.training().accumulate(); ++micro)
      if (Status status = runProgram(run, "micro_step"); !status)
        return tl::unexpected(status.error());
    if (Status status = runProgram(run, "update"); !status)
      return tl::unexpected(status.error());
    addMetrics("update");
  }
  for (const char *name : {"eval", "forward"}) {
    if (Status status = runProgram(run, name); !status)
      return tl::unexpected(status.error());
    addMetrics(name);
    if (int index = run.programIndex(name); index >= 0)
      for (const plan::Output &output : plan.programs(index).outputs())
        append(bits, run.bytes(output.slice()));
  }
  Bits result;
  for (const plan::StateTensor &tensor : plan.state()) {
    std::string &own = result.state.emplace_back();
    if (tensor.checkpointed())
      append(own, run.bytes(tensor.slice()));
    bits += own;
  }
  result.all = std::move(bits);
  return result;
}

/// The bits of all ranks, which are threads; the error of the first one that ran into any.
Expected<std::string> computeBitsOfRanks(const PlanFile &file, bool poison) {
  int size = 1;
  for (const plan::MeshAxis &axis : file.plan.mesh())
    size *= int(axis.size());
  if (size == 1) {
    Expected<Bits> alone = computeBits(file, poison, nullptr);
    if (!alone)
      return tl::unexpected(alone.error());
    return alone->all;
  }
  auto ranks = makeThreadRanks(size, {.deadline = kDeadline});
  std::mutex mutex;
  std::vector<Bits> bits(ranks.size());
  std::optional<Diagnostic> problem;
  std::vector<std::thread> threads;
  threads.reserve(ranks.size());
  for (auto &link : ranks)
    threads.emplace_back([&, link = link.get()] {
      Expected<Bits> own = computeBits(file, poison, link);
      std::lock_guard lock(mutex);
      if (own)
        bits[size_t(link->rank())] = std::move(*own);
      else if (!problem)
        problem = own.error();
      if (!own)
        link->giveUp(own.error());
    });
  for (std::thread &thread : threads)
    thread.join();
  if (problem)
    return tl::unexpected(*problem);
  if (Status status = compareCopies(file.plan, bits); !status)
    return tl::unexpected(status.error());
  std::string all;
  for (const Bits &own : bits)
    all += own.all;
  return all;
}

/// Runs the plan in a process of its own.
Result runApart(const PlanFile &file, const plan::Plan &plan, bool poison) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0)
    return {{}, "no pipe"};
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    Expected<std::string> bits = computeBitsOfRanks({plan, file.blobs}, poison);
    const std::string text = bits ? "+" + *bits : "-" + bits.error().str();
    for (size_t written = 0; written < text.size();) {
      ssize_t n = ::write(ends[1], text.data() + written, text.size() - written);
      if (n <= 0)
        ::_exit(1);
      written += size_t(n);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 65536> buffer{};
  for (ssize_t n; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), size_t(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || text.empty())
    return {{}, "the process died"};
  return text[0] == '+' ? Result{text.substr(1), {}} : Result{{}, text.substr(1)};
}

/// Empty if all runs of the plan leave the same bits, else what went wrong.
std::string findHarm(const PlanFile &file, const plan::Plan &plan) {
  const int orders = countOrders(plan);
  if (orders == 0)
    return "it deadlocks";
  const Result listed = runApart(file, plan, false);
  if (!listed.error.empty())
    return listed.error;
  for (int choice = 0; choice < orders; ++choice) {
    Result result = runApart(file, inOrder(plan, choice), true);
    if (!result.error.empty())
      return "in order " + std::to_string(choice) + ": " + result.error;
    if (result != listed)
      return "order " + std::to_string(choice) + " with poison leaves other bits";
  }
  return {};
}

} // namespace

int main(int argc, char **argv) {
  const long count = argc == 3 ? std::strtol(argv[2], nullptr, 10) : 0;
  if (count <= 0) {
    std::cerr << "usage: plan_mutations PLAN COUNT\n";
    return 2;
  }
  Expected<PlanFile> file = PlanFile::read(argv[1]);
  if (!file) {
    std::cerr << file.error().str() << '\n';
    return 1;
  }
  if (std::string harm = findHarm(*file, file->plan); !harm.empty()) {
    std::cerr << "the plan itself: " << harm << '\n';
    return 1;
  }
  const bool hasLanes =
      std::ranges::any_of(file->plan.programs(), [](const plan::Program &program) { return program.signals() > 0; });
  const bool hasRanks = rankCount(file->plan) > 1;
  const Result intended = hasRanks ? runApart(*file, file->plan, false) : Result{};
  int rejected = 0, harmless = 0, missed = 0, others = 0, drifting = 0;
  std::map<Rule, int> rules;
  auto miss = [&](uint64_t seed, const std::string &what, const std::string &harm) {
    ++missed;
    std::cout << "MISSED (seed " << seed << "): " << what << ": " << harm << std::endl;
  };
  for (uint64_t seed = 0; rejected + harmless + missed < count && seed < 10 * uint64_t(count); ++seed) {
    plan::Plan mutant = file->plan;
    std::optional<std::string> mutation;
    const bool ofRanks = hasRanks && seed % 2 == 0;
    if (ofRanks) {
      mutation = mutateRanks(mutant, RankMutationKind(seed / 2 % kRankMutationKinds), seed);
    } else if (auto other = seed % 4 == 1 && hasLanes ? mutate(mutant, kOfLanes[seed / 4 % kOfLanes.size()], seed)
                                                      : mutate(mutant, seed)) {
      mutation = other->description;
    }
    if (!mutation)
      continue;
    if (ofRanks) {
      plan::Plan meant = mutant;
      renewDigests(meant);
      const Validation judged = validate(meant);
      drifting += std::ranges::any_of(judged.findings, [](const Finding &each) { return each.rule == Rule::Replica; });
      std::string harm = judged.ok() ? findHarm(*file, meant) : "";
      if (!harm.empty() && harm.find(kRefused) == std::string::npos) {
        miss(seed, *mutation, harm);
        continue;
      }
      others += judged.ok();
    }
    Validation validation = validate(mutant);
    if (!validation.ok()) {
      ++rejected;
      ++rules[validation.findings.front().rule];
    } else if (std::string harm = findHarm(*file, mutant); harm.find(kRefused) != std::string::npos) {
      ++rejected; // what the backend checks: alignment of scratch, sizes of library calls
    } else if (harm.starts_with(kStopped)) {
      ++rejected;
    } else if (!harm.empty()) {
      miss(seed, *mutation, harm);
    } else if (ofRanks && runApart(*file, mutant, false) != intended) {
      miss(seed, *mutation, "it computes something else");
    } else {
      ++harmless;
      std::cout << "harmless: " << *mutation << std::endl;
    }
  }
  for (const auto &[rule, times] : rules)
    std::cout << ruleName(rule) << ": " << times << '\n';
  std::cout << rejected << " rejected, " << harmless << " harmless, " << missed << " missed\n";
  if (hasRanks)
    std::cout << others << " would pass if the compiler had meant them, and keep copies equal; " << drifting
              << " would not, since copies would drift apart\n";
  // Mutations that do nothing would be harmless, all of them.
  return missed == 0 && rejected >= count / 2 && rejected + harmless == count ? 0 : 1;
}
