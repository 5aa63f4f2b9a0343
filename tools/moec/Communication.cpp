//===- Communication.cpp - What a plan's ranks send to each other -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/Communication.h"

#include "runtime/plan/Collectives.h"
#include "runtime/plan/Exposure.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/StepKind.h"
#include "tools/moec/Report.h"

#include <algorithm>
#include <cstdio>

namespace moe::tools {

using Json = nlohmann::ordered_json;

static Traffic traffic(const plan::Plan &plan, const plan::Step &step) {
  if (!step.has_collective())
    return {};
  return collectiveTraffic(step.collective(), step.operands(0).dtype(), groupSize(plan, step.collective().axes()));
}

std::string axesText(const plan::Plan &plan, const plan::Step &step) {
  std::string text;
  if (step.has_collective())
    for (uint32_t axis : step.collective().axes())
      text += (text.empty() ? "" : "+") + plan.mesh(static_cast<int>(axis)).name();
  return text;
}

uint64_t sentBytes(const plan::Plan &plan, const plan::Step &step) {
  return traffic(plan, step).bytes;
}

static MachineEstimate machineOf(const plan::Plan &plan) {
  return MachineEstimate::of(plan.target().device() + ":" + plan.target().name(), plan.target().threads());
}

Json describeCommunication(const plan::Plan &plan, const plan::Program &program) {
  constexpr double kPicosecond = 1e-12;
  const std::vector<Exposure> times = estimateExposure(plan, program, machineOf(plan));
  auto time = times.begin();
  Json rows = Json::array();
  for (int i = 0; i < program.steps_size(); ++i) {
    const plan::Step &step = program.steps(i);
    if (!step.has_collective())
      continue;
    const std::string axes = axesText(plan, step), kind = stepKind(step);
    auto row =
        std::ranges::find_if(rows, [&](const Json &each) { return each["axes"] == axes && each["kind"] == kind; });
    if (row == rows.end()) {
      rows.push_back({{"axes", axes},
                      {"kind", kind},
                      {"collectives", 0},
                      {"messages", uint64_t(0)},
                      {"bytes_sent", uint64_t(0)},
                      {"exposed", Json::array()},
                      {"exposed_bytes", uint64_t(0)},
                      {"seconds", 0.0},
                      {"exposed_seconds", 0.0}});
      row = rows.end() - 1;
    }
    auto add = [&](const char *key, uint64_t amount) { (*row)[key] = (*row)[key].get<uint64_t>() + amount; };
    const Traffic sent = traffic(plan, step);
    auto addTime = [&](const char *key, int64_t picoseconds) {
      (*row)[key] = (*row)[key].get<double>() + kPicosecond * static_cast<double>(picoseconds);
    };
    addTime("seconds", time->time);
    addTime("exposed_seconds", time->exposed);
    ++time;
    add("collectives", 1);
    add("messages", sent.messages);
    add("bytes_sent", sent.bytes);
    if (isExposed(program, i)) {
      (*row)["exposed"].push_back(step.name());
      add("exposed_bytes", sent.bytes);
    }
  }
  return rows;
}

std::string communicationText(const plan::Plan &plan) {
  std::string text;
  for (const plan::Program &program : plan.programs())
    for (const Json &row : describeCommunication(plan, program)) {
      char line[256];
      const double seconds = row["seconds"].get<double>(), exposed = row["exposed_seconds"].get<double>();
      std::snprintf(line, sizeof(line),
                    "  %-11s %-14s %-13s %4s in %6s messages %12s %12s exposed, %3.0f %% of about %.3g ms\n",
                    program.name().c_str(), row["kind"].get_ref<const std::string &>().c_str(),
                    row["axes"].get_ref<const std::string &>().c_str(), row["collectives"].dump().c_str(),
                    row["messages"].dump().c_str(), bytesText(row["bytes_sent"].get<double>()).c_str(),
                    bytesText(row["exposed_bytes"].get<double>()).c_str(), 100 * exposed / seconds, 1e3 * seconds);
      text += line;
    }
  return text.empty() ? text : "sent by a rank (" + meshText(plan) + ")\n" + text;
}

} // namespace moe::tools
