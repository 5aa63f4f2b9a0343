//===- EventFile.h - Curves for TensorBoard ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_LOG_EVENTFILE_H
#define MOEC_RUNTIME_LOG_EVENTFILE_H

#include "runtime/core/Diagnostic.h"
#include "runtime/log/TrainLog.h"

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

namespace moe {

/// CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected, RFC 3720 appendix B.4).
uint32_t crc32c(std::string_view bytes);

/// A file of events as TensorBoard reads them: records of
/// u64 length | u32 masked CRC of the length | `Event` message | u32 masked CRC of the message, little endian, where a
/// CRC-32C c is masked as ((c >> 15) | (c << 17)) + 0xA282EAD8.
class EventFile {
public:
  /// Creates `folder` and in it a new file, `events.out.tfevents.<seconds>.<process>`: a run that is resumed writes
  /// beside its earlier files, and TensorBoard shows them as one curve. Errors: the folder or the file cannot be
  /// written.
  static Expected<EventFile> create(const std::filesystem::path &folder);

  EventFile(EventFile &&other) noexcept : path(std::move(other.path)), fd(std::exchange(other.fd, -1)) {}
  EventFile &operator=(EventFile &&) = delete;
  ~EventFile();

  /// Adds every number of `fields` as a scalar of its key at `step`; other values are left out. The record is written
  /// at once and whole, so that a run that is killed leaves a readable file. Errors: the disk is full.
  Status add(int64_t step, const LogRecord &fields);

private:
  EventFile(std::filesystem::path path, int fd) : path(std::move(path)), fd(fd) {}
  Status write(std::string_view message);

  std::filesystem::path path;
  int fd;
};

} // namespace moe

#endif // MOEC_RUNTIME_LOG_EVENTFILE_H
