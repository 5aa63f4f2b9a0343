//===- AtomicFile.h - A file that exists whole or not at all -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_ATOMICFILE_H
#define MOEC_RUNTIME_CHECKPOINT_ATOMICFILE_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
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
  /// Name of the temporary file for `path`.
  static std::filesystem::path temporaryName(const std::filesystem::path &path);

  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&) = delete;
  ~AtomicFile();

  /// Appends. Errors: no space left and the like; the file is then useless.
  Status write(std::span<const std::byte> bytes);
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
