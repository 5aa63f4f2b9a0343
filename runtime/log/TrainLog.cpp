//===- TrainLog.cpp - What a run tells while it runs -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/TrainLog.h"

#include <cmath>
#include <cstdio>

namespace moe {

TrainLog::TrainLog(Format format, int outFd, int errFd) : out(outFd), err(errFd), silent(format == Format::Silent) {
  json = format == Format::Json || (format == Format::Automatic && !out.isTerminal());
}

std::string TrainLog::toJson(const LogRecord &fields) {
  return fields.dump(-1, ' ', false, LogRecord::error_handler_t::replace);
}

std::string TrainLog::toText(const LogRecord &fields) {
  std::string text;
  for (const auto &[key, value] : fields.items()) {
    text += (text.empty() ? "" : " | ") + key + " ";
    if (value.is_number_float()) {
      char number[32];
      std::snprintf(number, sizeof(number), "%.5g", value.get<double>());
      text += number;
    } else {
      text += value.is_string() ? value.get<std::string>() : toJson(value);
    }
  }
  return text;
}

void TrainLog::record(const LogRecord &fields) {
  if (silent)
    return;
  out.line(json ? toJson(fields) : toText(fields));
}

void TrainLog::progress(const LogRecord &fields) {
  if (silent)
    return;
  if (json || !out.isTerminal())
    record(fields);
  else
    out.status(toText(fields));
}

void TrainLog::message(const std::string &text) {
  if (silent)
    return;
  if (out.isTerminal())
    out.endStatus();
  err.line(text);
}

std::string durationText(double seconds) {
  char text[64];
  auto whole = static_cast<long long>(std::isfinite(seconds) && seconds > 0 ? std::min(seconds, 1e15) : 0);
  if (whole >= 3600)
    std::snprintf(text, sizeof(text), "%lld h %02lld min", whole / 3600, whole / 60 % 60);
  else if (whole >= 60)
    std::snprintf(text, sizeof(text), "%lld min %02lld s", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof(text), "%lld s", whole);
  return text;
}

} // namespace moe
