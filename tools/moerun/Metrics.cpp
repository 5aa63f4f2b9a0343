//===- Metrics.cpp - The numbers a program leaves for the host ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Metrics.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace moe {

Metrics::Metrics(Session &session, std::string_view program) : session(session) {
  for (int i = 0; i < session.plan().metrics_size(); ++i) {
    const plan::Metric &metric = session.plan().metrics(i);
    if (metric.program() == program)
      list.push_back({metric.name(), i, metric.dtype() == plan::I64 || metric.dtype() == plan::I32});
  }
}

const Metrics::Entry *Metrics::find(std::string_view name) const {
  auto found = std::ranges::find(list, name, &Entry::name);
  return found == list.end() ? nullptr : &*found;
}

double Metrics::value(std::string_view name, double fallback) const {
  const Entry *entry = find(name);
  return entry ? session.metric(entry->index) : fallback;
}

void Metrics::append(LogRecord &record) const {
  for (const Entry &entry : list) {
    if (entry.name == "num_updates")
      continue;
    double value = session.metric(entry.index);
    if (entry.isInteger)
      record[entry.name] = static_cast<int64_t>(value);
    else
      record[entry.name] = value;
  }
}

Status Metrics::clear() {
  for (const Entry &entry : list) {
    const plan::Slice &slice = session.plan().metrics(entry.index).slice();
    if (Status status = session.write(slice, std::vector<std::byte>(slice.bytes())); !status)
      return status;
  }
  return {};
}

Expected<int> requireProgram(const Session &session, std::string_view name) {
  int index = session.programIndex(name);
  if (index < 0)
    return error("the plan has no program '" + std::string(name) + "'", {}, {}, "compile the model again");
  return index;
}

Status checkFinite(const Metrics &metrics, int64_t update) {
  for (const char *name : {"loss", "gnorm"})
    if (double value = metrics.value(name, 0); !std::isfinite(value))
      return error(std::string(name) + " is not finite in update " + std::to_string(update), {},
                   std::string("it is ") + (std::isnan(value) ? "NaN" : "infinite") +
                       "; the state is no longer usable and is not saved",
                   "resume from the last checkpoint with a smaller learning rate or with clip_norm");
  return {};
}

} // namespace moe
