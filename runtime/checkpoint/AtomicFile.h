//===- AtomicFile.h - A file that exists whole or not at all -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_ATOMICFILE_H
#define MOEC_RUNTIME_CHECKPOINT_ATOMICFILE_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace moe {

/// Writes to `.NAME.tmp` in the same folder; `commit` syncs it to the disk, renames it to NAME and syncs the folder.
/// Until then an older NAME stays as it is, also when the process is killed. Without `commit` the temporary file is
/// removed.
class AtomicFile {
public:
  /// Errors: the folder is missing or not writable.
  static Expected<AtomicFile> create(const std::filesystem::path &path);
  /// The temporary file that another rank has created, to write parts of it; its `commit` only syncs, and nothing
  /// removes it. Errors: it is not there.
  static Expected<AtomicFile> join(const std::filesystem::path &path);
  /// Name of the temporary file for `path`.
  static std::filesystem::path temporaryName(const std::filesystem::path &path);

  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&) = delete;
  ~AtomicFile();

  /// Appends. Errors: no space left and the like; the file is then useless.
  Status write(std::span<const std::byte> bytes);
  /// Writes at a place of its own, however large the file is by then. Errors: the same.
  Status writeAt(uint64_t offset, std::span<const std::byte> bytes);
  /// Reads all of `target` from a place that has been written, by whichever rank. Errors: the disk fails.
  Status readAt(uint64_t offset, std::span<std::byte> target) const;
  /// Makes what this rank has written last. `commit` does that too.
  Status sync();
  Status commit();

private:
  AtomicFile() = default;
  Status fail(const char *action, int reason) const;

  std::filesystem::path target, temporary;
  int fd = -1;
};

/// Whether a file could be written at `path`, found out by creating and removing its temporary: asked before hours of
/// work.
Status checkWritable(const std::filesystem::path &path);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_ATOMICFILE_H
