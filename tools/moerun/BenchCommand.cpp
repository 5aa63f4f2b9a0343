//===- BenchCommand.cpp - moerun bench ---------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/LineWriter.h"
#include "tools/moerun/Metrics.h"
#include "tools/moerun/Profile.h"
#include "tools/moerun/Setup.h"
#include "tools/moerun/Watchdog.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

namespace moe {

const Command &benchCommand() {
  static const Command command = {
      "bench",
      "Runs updates on random tokens and tells where their time goes.",
      "PLAN",
      withCommonFlags({
          {"steps", "N", "updates to measure, after two that warm up; default 5"},
          {"top", "N", "steps to list, those that take longest first; default 20"},
          {"json", "", "print one JSON object with all steps"},
      }),
      "Of each step the least time over all updates is shown: other work on the machine only ever adds. The ratio "
      "compares the sum with what matrix products and attention take alone.",
  };
  return command;
}

namespace {

/// What was measured beside the steps.
struct Measured {
  double wallSeconds = 0; ///< least of an update as a whole
  int64_t tokens = 0;     ///< per update
};

double ratio(const Profile &profile) {
  return profile.productSeconds() > 0 ? profile.seconds() / profile.productSeconds() : 0;
}

std::vector<const StepProfile *> byTime(const Profile &profile) {
  std::vector<const StepProfile *> order;
  for (const StepProfile &step : profile.steps())
    order.push_back(&step);
  std::ranges::sort(order, std::greater<>(), &StepProfile::total);
  return order;
}

std::string row(const char *left, const std::string &name, double seconds, double share, double flops, double bytes) {
  char numbers[128];
  std::snprintf(numbers, sizeof(numbers), "%-19s %9.3f %5.1f%% %9.1f %7.1f  ", left, seconds * 1e3, share * 100,
                seconds > 0 ? flops / seconds * 1e-9 : 0, seconds > 0 ? bytes / seconds * 1e-9 : 0);
  return numbers + name;
}

void printText(const Profile &profile, const Measured &measured, size_t top) {
  LineWriter out(1);
  double all = profile.seconds();
  out.line("kind                       ms  share   GFLOP/s    GB/s  steps");
  std::map<std::string, KindProfile> kinds = profile.kinds();
  std::vector<std::pair<std::string, KindProfile>> sorted(kinds.begin(), kinds.end());
  std::ranges::sort(sorted, std::greater<>(), [](const auto &kind) { return kind.second.seconds; });
  for (const auto &[name, kind] : sorted)
    out.line(row(name.c_str(), std::to_string(kind.steps), kind.seconds, kind.seconds / all, kind.flops, kind.bytes));
  out.line("");
  out.line("kind                       ms  share   GFLOP/s    GB/s  program[step] name");
  std::vector<const StepProfile *> order = byTime(profile);
  order.resize(std::min(order.size(), top));
  for (const StepProfile *step : order) {
    auto runs = static_cast<double>(step->runs);
    out.line(row(step->kind.c_str(), step->program + "[" + std::to_string(step->index) + "] " + step->name,
                 step->total(), step->total() / all, step->flops * runs, step->bytes * runs));
  }
  char text[256];
  std::snprintf(text, sizeof(text),
                "\nsteps %.1f ms, matrix products and attention %.1f ms, ratio %.2f; update %.1f ms, %.0f tokens/s",
                all * 1e3, profile.productSeconds() * 1e3, ratio(profile), measured.wallSeconds * 1e3,
                static_cast<double>(measured.tokens) / measured.wallSeconds);
  out.line(text);
}

void printJson(const Profile &profile, const Measured &measured) {
  LogRecord record;
  record["seconds"] = profile.seconds();
  record["product_seconds"] = profile.productSeconds();
  record["ratio"] = ratio(profile);
  record["wall_seconds"] = measured.wallSeconds;
  record["tokens_per_second"] = static_cast<double>(measured.tokens) / measured.wallSeconds;
  for (const auto &[name, kind] : profile.kinds())
    record["kinds"][name] = {
        {"seconds", kind.seconds}, {"flops", kind.flops}, {"bytes", kind.bytes}, {"steps", kind.steps}};
  record["steps"] = LogRecord::array();
  for (const StepProfile *step : byTime(profile))
    record["steps"].push_back({{"program", step->program},
                               {"index", step->index},
                               {"name", step->name},
                               {"kind", step->kind},
                               {"seconds", step->seconds},
                               {"flops", step->flops},
                               {"bytes", step->bytes},
                               {"runs", step->runs}});
  LineWriter(1).line(TrainLog::toJson(record));
}

} // namespace

Status runBench(const Arguments &arguments, Rank &rank) {
  auto common = readCommonOptions(arguments, rank);
  if (!common)
    return tl::unexpected(common.error());
  common->profile = true;
  auto steps = arguments.integer("steps", 5, 1), top = arguments.integer("top", 20, 0, INT32_MAX);
  auto ranks = arguments.integer("ranks", 1, 1);
  for (const auto *number : {&steps, &top, &ranks})
    if (!*number)
      return tl::unexpected(number->error());
  if (*ranks != 1)
    return error("bench measures a single rank", "--ranks " + std::to_string(*ranks), {}, "leave --ranks out",
                 ExitCode::Usage);
  TrainLog log(common->format);
  auto opened = openSession(*common, log, rank);
  if (!opened)
    return tl::unexpected(opened.error());
  Session &session = *opened->session;
  auto microStep = requireProgram(session, "micro_step"), update = requireProgram(session, "update");
  for (const auto *program : {&microStep, &update})
    if (!*program)
      return tl::unexpected(program->error());
  if (Status status = initialise(session, *common); !status)
    return status;

  constexpr int64_t warmUp = 2;
  const plan::Training &training = session.plan().training();
  Measured measured{.wallSeconds = std::numeric_limits<double>::infinity(),
                    .tokens = training.accumulate() * training.micro_batch() *
                              std::max<int64_t>(1, training.sequence_length())};
  Profile profile(session, *microStep, *update);
  Watchdog watchdog(common->deadline);
  for (int64_t step = 0; step < *steps + warmUp; ++step) {
    stageRandomTokens(session, static_cast<uint64_t>(step));
    auto start = std::chrono::steady_clock::now();
    for (int64_t micro = 0; micro <= training.accumulate(); ++micro) {
      int program = micro < training.accumulate() ? *microStep : *update;
      watchdog.beat("a measured program", step);
      if (Status status = session.run(program); !status)
        return status;
      if (step >= warmUp)
        profile.record(program);
    }
    if (step >= warmUp)
      measured.wallSeconds = std::min(measured.wallSeconds,
                                      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  if (arguments.has("json"))
    printJson(profile, measured);
  else
    printText(profile, measured, static_cast<size_t>(*top));
  return {};
}

} // namespace moe
