//===- DoctorCommand.cpp - moerun doctor --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Backend.h"
#include "runtime/core/Memory.h"
#include "runtime/log/LineWriter.h"
#include "tools/moerun/Setup.h"

#include <algorithm>

namespace moe {
namespace {

/// The backends that exist; which of them are installed is what the command finds out.
constexpr std::string_view backends[] = {"cpu", "cuda"};

struct Report {
  std::string_view name;
  bool isInstalled = false;
  std::vector<DeviceFact> facts;
};

Report examine(std::string_view name) {
  auto device = createDevice(name, /*threads=*/1);
  if (device)
    return {name, true, (*device)->describe()};
  const Diagnostic &problem = device.error();
  return {name,
          false,
          {{"backend", "missing",
            problem.what + (problem.why.empty() ? "" : ": " + problem.why) + "; plans for '" + std::string(name) +
                "' do not run here; " + problem.remedy}}};
}

DeviceFact memoryFact() {
  std::optional<uint64_t> available = availableMemory();
  return {"available memory", available ? formatBytes(*available) : "unknown", {}};
}

std::string asText(const std::vector<Report> &reports) {
  std::string text = "moerun " MOEC_VERSION "\n";
  size_t width = 0;
  for (const Report &report : reports)
    for (const DeviceFact &fact : report.facts)
      width = std::max(width, fact.name.size());
  size_t problems = 0;
  for (const Report &report : reports) {
    text += "\n" + std::string(report.name) + "\n";
    for (const DeviceFact &fact : report.facts) {
      text += "  " + fact.name + std::string(width + 2 - fact.name.size(), ' ') + fact.value + "\n";
      if (fact.problem.empty())
        continue;
      text += "    problem: " + fact.problem + "\n";
      ++problems;
    }
  }
  return text + "\n" +
         (problems == 0   ? "no problems"
          : problems == 1 ? "1 problem"
                          : std::to_string(problems) + " problems");
}

LogRecord asRecord(const std::vector<Report> &reports) {
  LogRecord record = {{"version", MOEC_VERSION}, {"devices", LogRecord::object()}};
  for (const Report &report : reports) {
    LogRecord facts = LogRecord::array();
    for (const DeviceFact &fact : report.facts)
      facts.push_back({{"name", fact.name}, {"value", fact.value}, {"problem", fact.problem}});
    record["devices"][std::string(report.name)] = {{"installed", report.isInstalled}, {"facts", std::move(facts)}};
  }
  return record;
}

} // namespace

const Command &doctorCommand() {
  static const Command command = {
      "doctor",
      "Tells what this machine has of what running plans needs, and what is missing.",
      "",
      {{"json", "", "one JSON object"}},
      "Ends with 0 whatever it finds.",
  };
  return command;
}

Status runDoctor(const Arguments &arguments, Rank & /*rank*/) {
  std::vector<Report> reports;
  for (std::string_view name : backends)
    reports.push_back(examine(name));
  reports.front().facts.push_back(memoryFact());
  LineWriter(1).line(arguments.has("json") ? asRecord(reports).dump() : asText(reports));
  return {};
}

} // namespace moe
