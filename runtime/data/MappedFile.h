//===- MappedFile.h - A file in memory, read only ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_MAPPEDFILE_H
#define MOEC_RUNTIME_DATA_MAPPEDFILE_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <filesystem>
#include <span>

namespace moe {

/// A regular file mapped read-only. Its pages belong to the file, so they do not count as memory of the process.
class MappedFile {
public:
  /// Errors: missing, unreadable, not a regular file. An empty file maps to an empty span.
  static Expected<MappedFile> open(const std::filesystem::path &path);

  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data, size}; }
  const std::filesystem::path &path() const { return name; }

private:
  MappedFile() = default;

  std::filesystem::path name;
  const std::byte *data = nullptr;
  size_t size = 0;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_MAPPEDFILE_H
