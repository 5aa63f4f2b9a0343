//===- LineWriter.h - Whole lines to a stream, at once -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_LOG_LINEWRITER_H
#define MOEC_RUNTIME_LOG_LINEWRITER_H

#include <string_view>

namespace moe {

/// Writes complete lines to a file descriptor without buffering, so that a line is seen when it is written and the last
/// one is not lost when the process is killed. A reader that goes away (broken pipe) silences the writer; training and
/// saving go on.
class LineWriter {
public:
  explicit LineWriter(int fd);

  /// Whether the stream is a terminal.
  bool isTerminal() const { return terminal; }
  /// Writes `text` and a newline; erases a pending status first.
  void line(std::string_view text);
  /// Shows `text` in place of the last status line (terminals only).
  void status(std::string_view text);
  /// Leaves the status line on the screen and moves below it.
  void endStatus();

private:
  void write(std::string_view text);

  int fd;
  bool terminal;
  bool pendingStatus = false;
  bool broken = false;
};

} // namespace moe

#endif // MOEC_RUNTIME_LOG_LINEWRITER_H
