//===- LineWriter.cpp - Whole lines to a stream, at once ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/LineWriter.h"

#include <cerrno>
#include <string>
#include <unistd.h>

namespace moe {

static constexpr std::string_view eraseLine = "\r\x1b[K";

LineWriter::LineWriter(int fd) : fd(fd), terminal(::isatty(fd) == 1) {}

void LineWriter::line(std::string_view text) {
  std::string whole;
  whole.reserve(text.size() + eraseLine.size() + 1);
  if (pendingStatus)
    whole += eraseLine;
  pendingStatus = false;
  whole.append(text).push_back('\n');
  write(whole);
}

void LineWriter::status(std::string_view text) {
  if (!terminal)
    return;
  pendingStatus = true;
  write(std::string(eraseLine).append(text));
}

void LineWriter::endStatus() {
  if (pendingStatus)
    write("\n");
  pendingStatus = false;
}

void LineWriter::write(std::string_view text) {
  while (!text.empty() && !broken) {
    ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0)
      text.remove_prefix(static_cast<size_t>(written));
    else if (errno != EINTR)
      broken = true;
  }
}

} // namespace moe
