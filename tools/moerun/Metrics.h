//===- Metrics.h - The numbers a program leaves for the host -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_METRICS_H
#define MOEC_TOOLS_MOERUN_METRICS_H

#include "runtime/core/Session.h"
#include "runtime/log/TrainLog.h"

#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Metrics of one program, looked up once.
class Metrics {
public:
  /// All metrics whose `program` is `program`.
  Metrics(Session &session, std::string_view program);

  struct Entry {
    std::string name;
    int index = 0; ///< in plan().metrics()
    bool isInteger = false;
  };

  const std::vector<Entry> &entries() const { return list; }
  bool has(std::string_view name) const { return find(name) != nullptr; }
  /// Current value; `fallback` if the plan has no such metric.
  double value(std::string_view name, double fallback) const;
  /// Adds every metric to a log line, those of integer type as integers; `num_updates` is left out.
  void append(LogRecord &record) const;
  /// Sets the slices to zero.
  Status clear();

private:
  const Entry *find(std::string_view name) const;

  Session &session;
  std::vector<Entry> list;
};

/// Index of a program; an error if the plan lacks it.
Expected<int> requireProgram(const Session &session, std::string_view name);

/// An error if the loss or the gradient norm of an update is not a finite number.
Status checkFinite(const Metrics &metrics, int64_t update);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_METRICS_H
