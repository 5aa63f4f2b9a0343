//===- Report.cpp - What a plan is, for people and for scripts --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/Report.h"
#include "runtime/plan/StepKind.h"
#include "tools/moec/Communication.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

namespace moe::tools {

namespace {

std::string line(const std::string &left, const std::string &right) {
  char text[256];
  std::snprintf(text, sizeof(text), "  %-44.44s %14s\n", left.c_str(), right.c_str());
  return text;
}

std::string number(double value, const char *format) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

uint64_t classBytes(const plan::Plan &plan, const std::string &name) {
  for (const plan::Certificate::Class &entry : plan.certificate().classes())
    if (entry.name() == name)
      return entry.bytes();
  return 0;
}

double arenaRatio(const plan::Plan &plan) {
  auto bound = static_cast<double>(plan.certificate().live_lower_bound());
  return bound > 0 ? static_cast<double>(classBytes(plan, "step")) / bound : 1.0;
}

int64_t parameterCount(const plan::Plan &plan) {
  int64_t count = 0;
  for (const plan::StateTensor &state : plan.state())
    if (state.kind() == plan::StateTensor::PARAMETER) {
      int64_t size = 1;
      for (int64_t extent : state.shape())
        size *= extent;
      count += size;
    }
  return count;
}

std::map<std::string, int> stepKinds(const plan::Program &program) {
  std::map<std::string, int> kinds;
  for (const plan::Step &step : program.steps())
    ++kinds[stepKind(step)];
  return kinds;
}

/// Steps that compute a value of the forward again (passes/Rematerialize.h names them so), and their FLOPs.
struct Again {
  int64_t steps = 0;
  double flops = 0;
};

Again computedAgain(const plan::Plan &plan) {
  Again again;
  for (const plan::Program &program : plan.programs())
    for (const plan::Step &step : program.steps())
      if (program.name() == "micro_step" && step.name().ends_with(".again")) {
        ++again.steps;
        again.flops += step.flops();
      }
  return again;
}

} // namespace

std::string bytesText(double bytes) {
  const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return number(bytes, unit == 0 ? "%.0f " : "%.2f ") + units[unit];
}

std::string planReport(const plan::Plan &plan, const std::string &path, const std::optional<KeptBytes> &kept) {
  const plan::Certificate &certificate = plan.certificate();
  std::string text = path + "\n";
  text += line("parameters", std::to_string(parameterCount(plan)));
  text += line("FLOPs per micro-step", number(certificate.flops_per_micro_step(), "%.3e"));
  if (Again again = computedAgain(plan); again.steps > 0)
    text += line("  of them computed again in the backward", number(again.flops, "%.3e"));
  if (kept) {
    text += line("kept for the backward", bytesText(static_cast<double>(kept->with)));
    text += line("  without --recompute " + kept->policy, bytesText(static_cast<double>(kept->without)));
  }
  text += "memory per rank\n";
  for (const plan::Certificate::Class &entry : certificate.classes())
    text += line(entry.name(), bytesText(static_cast<double>(entry.bytes())));
  text += line("total", bytesText(static_cast<double>(certificate.total())));
  text += line("libraries, at most", bytesText(static_cast<double>(certificate.library_overhead())));
  text += line("step arena / live lower bound", number(arenaRatio(plan), "%.4f"));
  text += "largest buffers at the peak\n";
  for (const plan::Certificate::Class &entry : certificate.peak())
    text += line(entry.name(), bytesText(static_cast<double>(entry.bytes())));
  text += "programs\n";
  for (const plan::Program &program : plan.programs()) {
    std::string kinds;
    for (const auto &[kind, count] : stepKinds(program))
      kinds += (kinds.empty() ? "" : ", ") + std::to_string(count) + " " + kind;
    text += "  " + program.name() + ": " + std::to_string(program.steps_size()) + " steps (" + kinds + ")\n";
  }
  text += communicationText(plan);
  text += "kernels\n" + line("distinct", std::to_string(plan.kernels_size()));
  return text;
}

std::string planReportJson(const plan::Plan &plan, const std::optional<KeptBytes> &kept) {
  const plan::Certificate &certificate = plan.certificate();
  nlohmann::json json;
  json["parameters"] = parameterCount(plan);
  json["flops_per_micro_step"] = certificate.flops_per_micro_step();
  for (const plan::Certificate::Class &entry : certificate.classes())
    json["memory"][entry.name()] = entry.bytes();
  json["memory"]["total"] = certificate.total();
  json["memory"]["library_overhead"] = certificate.library_overhead();
  if (Again again = computedAgain(plan); again.steps > 0 || kept)
    json["recompute"] = {{"steps", again.steps}, {"flops", again.flops}};
  if (kept) {
    json["recompute"]["policy"] = kept->policy;
    json["recompute"]["kept_bytes"] = kept->with;
    json["recompute"]["kept_bytes_without"] = kept->without;
  }
  json["live_lower_bound"] = certificate.live_lower_bound();
  json["arena_ratio"] = arenaRatio(plan);
  for (const plan::Certificate::Class &entry : certificate.peak())
    json["peak"].push_back({{"name", entry.name()}, {"bytes", entry.bytes()}});
  for (const plan::Program &program : plan.programs())
    json["programs"][program.name()] = {{"steps", program.steps_size()},
                                        {"kinds", stepKinds(program)},
                                        {"communication", describeCommunication(plan, program)}};
  json["kernels"] = plan.kernels_size();
  json["routing_groups"] = plan.header().routing_groups();
  return json.dump() + "\n";
}

} // namespace moe::tools
