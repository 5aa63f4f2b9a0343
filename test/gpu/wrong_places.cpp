//===- wrong_places.cpp - Plans whose operands lie elsewhere ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
//   wrong_places PLAN EVERY FIRST
//
// Takes a plan for the simulated device and puts one operand of one step into another buffer, for all operands of the
// programs of training, number FIRST and each EVERY-th after it. The validator or the device must report it, or the
// bits are not those of the plan as it was, which other tests compare with those of the CPU.
//
// Each plan makes two updates in a process of its own: the first one launches its steps one by one, the second one is a
// graph.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/StateInit.h"
#include "runtime/core/Session.h"
#include "runtime/plan/PlanFile.h"

#include <array>
#include <cstring>
#include <iostream>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

using namespace moe;

namespace {

constexpr int kUpdates = 2;
constexpr uint32_t kPlaces = 8;

/// What became of a plan: the bits that it leaves, or the error that ended it.
struct Result {
  bool ended = false;
  std::string text;
};

void append(std::string &bits, const void *bytes, size_t size) {
  bits.append(static_cast<const char *>(bytes), size);
}

void stageTokens(Session &session, int update) {
  std::mt19937_64 random{static_cast<uint64_t>(update)};
  size_t padding = 56;
  for (const plan::Input &input : session.plan().inputs()) {
    std::span<std::byte> bytes = session.bytes(input.staging());
    for (size_t at = 0; at + sizeof(int64_t) <= bytes.size(); at += sizeof(int64_t)) {
      auto token = static_cast<int64_t>(4 + random() % static_cast<uint64_t>(input.vocabulary() - 4));
      if (at % 64 == padding) // another place in each input
        token = session.plan().training().pad_id();
      std::memcpy(bytes.data() + at, &token, sizeof(token));
    }
    padding -= sizeof(int64_t);
  }
}

/// Metrics after each update, and all that a checkpoint would hold.
Expected<std::string> computeBits(PlanFile file) {
  SessionOptions options;
  options.device = file.plan.target().device();
  auto created = Session::create(std::move(file), options);
  if (!created)
    return tl::unexpected(created.error());
  Session &session = **created;
  const plan::Plan &plan = session.plan();
  if (Status status = initialiseState(session, StateSources{.seed = 1}); !status)
    return tl::unexpected(status.error());
  std::vector<int> programs(static_cast<size_t>(plan.training().accumulate()), session.programIndex("micro_step"));
  programs.push_back(session.programIndex("update"));
  std::string bits;
  for (int update = 0; update < kUpdates; ++update) {
    stageTokens(session, update);
    if (Status status = session.runSequence(programs, [](int) {}); !status)
      return tl::unexpected(status.error());
    for (int i = 0; i < plan.metrics_size(); ++i)
      if (plan.metrics(i).program() == "update") {
        const double value = session.metric(i);
        append(bits, &value, sizeof(value));
      }
  }
  for (const plan::StateTensor &tensor : plan.state()) {
    std::vector<std::byte> bytes(tensor.slice().bytes());
    if (Status status = session.read(tensor.slice(), bytes); !status)
      return tl::unexpected(status.error());
    if (tensor.checkpointed())
      append(bits, bytes.data(), bytes.size());
  }
  return bits;
}

/// Runs a plan in a process of its own, since nothing says that it ends well.
Result runApart(const PlanFile &file, const plan::Plan &plan) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0)
    return {false, "no pipe"};
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    Expected<std::string> bits = computeBits({plan, file.blobs});
    const std::string text = bits ? "+" + *bits : "-" + bits.error().str();
    for (size_t written = 0; written < text.size();) {
      const ssize_t n = ::write(ends[1], text.data() + written, text.size() - written);
      if (n <= 0)
        ::_exit(1);
      written += static_cast<size_t>(n);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 65536> buffer{};
  for (ssize_t n; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || text.empty())
    return {false, "the process died"};
  return {text[0] == '+', text.substr(1)};
}

struct Operand {
  std::string name;
  int program = 0, step = 0, operand = 0;
  /// One of them must be noticed: other memory may happen to hold the same.
  std::vector<uint32_t> otherBuffers = {};
};

/// Some buffers of all kinds of memory that have room for a slice: those of an arena lie together.
std::vector<uint32_t> otherBuffers(const plan::Plan &plan, const plan::Slice &slice) {
  std::vector<uint32_t> others;
  const auto buffers = static_cast<uint32_t>(plan.buffers_size()), stride = buffers / kPlaces + 1;
  for (uint32_t n = 0; n < buffers && others.size() < kPlaces; ++n) {
    const uint32_t other = (slice.buffer() + 1 + n * stride) % buffers;
    if (other != slice.buffer() && plan.buffers(static_cast<int>(other)).bytes() >= slice.offset() + slice.bytes())
      others.push_back(other);
  }
  return others;
}

std::vector<Operand> operandsOf(const plan::Plan &plan) {
  std::vector<Operand> operands;
  for (int p = 0; p < plan.programs_size(); ++p) {
    const plan::Program &program = plan.programs(p);
    if (program.name() != "micro_step" && program.name() != "update")
      continue;
    for (int s = 0; s < program.steps_size(); ++s)
      for (int o = 0; o < program.steps(s).operands_size(); ++o) {
        const plan::Operand &operand = program.steps(s).operands(o);
        Operand found{.name = program.name() + "[" + std::to_string(s) + "] " + program.steps(s).name() + ", operand " +
                              std::to_string(o),
                      .program = p,
                      .step = s,
                      .operand = o,
                      .otherBuffers = otherBuffers(plan, operand.slice())};
        if (operand.access() != plan::Operand::SCRATCH && !found.otherBuffers.empty())
          operands.push_back(std::move(found));
      }
  }
  return operands;
}

/// What shows that the operand is elsewhere; empty if nothing does.
std::string notice(const PlanFile &file, const Operand &operand, const Result &honest) {
  for (uint32_t buffer : operand.otherBuffers) {
    plan::Plan mutant = file.plan;
    plan::Step &step = *mutant.mutable_programs(operand.program)->mutable_steps(operand.step);
    step.mutable_operands(operand.operand)->mutable_slice()->set_buffer(buffer);
    const Result result = runApart(file, mutant);
    if (!result.ended)
      return result.text;
    if (result.text != honest.text)
      return "other bits";
  }
  return {};
}

} // namespace

int main(int count, char **words) {
  const long every = count == 4 ? std::strtol(words[2], nullptr, 10) : 0;
  const long first = count == 4 ? std::strtol(words[3], nullptr, 10) : -1;
  if (every <= 0 || first < 0) {
    std::cerr << "usage: wrong_places PLAN EVERY FIRST\n";
    return 2;
  }
  Expected<PlanFile> file = PlanFile::read(words[1]);
  if (!file) {
    std::cerr << file.error().str() << '\n';
    return 1;
  }
  const Result honest = runApart(*file, file->plan);
  if (!honest.ended) {
    std::cerr << "the plan itself: " << honest.text << '\n';
    return 1;
  }
  const std::vector<Operand> operands = operandsOf(file->plan);
  int moved = 0;
  std::vector<std::string> survivors;
  for (auto i = static_cast<size_t>(first); i < operands.size(); i += static_cast<size_t>(every), ++moved) {
    const std::string noticed = notice(*file, operands[i], honest);
    if (noticed.empty())
      survivors.push_back(operands[i].name);
    std::cout << operands[i].name << ": " << noticed << std::endl;
  }
  for (const std::string &name : survivors)
    std::cout << "not noticed: " << name << '\n';
  std::cout << moved << " of " << operands.size() << " operands in other places: " << survivors.size()
            << " not noticed\n";
  return survivors.empty() && moved > 0 ? 0 : 1;
}
