//===- TrainLog.h - What a run tells while it runs ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_LOG_TRAINLOG_H
#define MOEC_RUNTIME_LOG_TRAINLOG_H

#include "runtime/log/LineWriter.h"

#include <nlohmann/json.hpp>
#include <string>

namespace moe {

/// Fields of one log line, in order. Doubles are printed so that reading them gives the same bits; numbers that are not
/// finite become null.
using LogRecord = nlohmann::ordered_json;

/// Results go to standard output: JSON lines for programs, a progress line for a person. Messages go to standard error.
class TrainLog {
public:
  enum class Format { Automatic, Json, Progress, Silent };

  /// Automatic: progress if standard output is a terminal, else JSON. Silent: nothing, for all ranks but the first.
  explicit TrainLog(Format format, int outFd = 1, int errFd = 2);

  bool isJson() const { return json; }
  /// A line of results: JSON as it is, else as "key value | key value".
  void record(const LogRecord &fields);
  /// Passing progress of the same kind: JSON as `record`; on a terminal it replaces the last one, elsewhere it is a
  /// line.
  void progress(const LogRecord &fields);
  /// A line for the person who started the run.
  void message(const std::string &text);
  void finish() {
    if (!silent)
      out.endStatus();
  }

  static std::string toJson(const LogRecord &fields);
  static std::string toText(const LogRecord &fields);

private:
  LineWriter out, err;
  bool json;
  bool silent;
};

/// "1 h 02 min", "3 min 20 s", "14 s".
std::string durationText(double seconds);

} // namespace moe

#endif // MOEC_RUNTIME_LOG_TRAINLOG_H
