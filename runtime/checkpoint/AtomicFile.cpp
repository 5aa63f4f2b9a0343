//===- AtomicFile.cpp - A file that exists whole or not at all ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/AtomicFile.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace moe {

static std::filesystem::path folderOf(const std::filesystem::path &path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

/// Bytes that one call reads or writes at most.
static constexpr size_t kWritePiece = size_t(1) << 26;

std::filesystem::path AtomicFile::temporaryName(const std::filesystem::path &path) {
  return folderOf(path) / ("." + path.filename().string() + ".tmp");
}

Status AtomicFile::fail(const char *action, int reason) const {
  return error(std::string("cannot ") + action + " the file", target.string(), std::strerror(reason),
               reason == ENOSPC || reason == EDQUOT || reason == EFBIG
                   ? "free some space; what was there before has been kept"
                   : "");
}

Expected<AtomicFile> AtomicFile::create(const std::filesystem::path &path) {
  AtomicFile file;
  file.target = path;
  std::error_code ignored;
  if (path.filename().empty() || std::filesystem::is_directory(path, ignored))
    return error("cannot write the file", path.string(), "it is a folder");
  std::filesystem::path temporary = temporaryName(path);
  file.fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.fd < 0)
    return tl::unexpected(file.fail("write", errno).error());
  file.temporary = std::move(temporary);
  return file;
}

Expected<AtomicFile> AtomicFile::join(const std::filesystem::path &path) {
  AtomicFile file;
  file.target = path;
  file.fd = ::open(temporaryName(path).c_str(), O_RDWR | O_CLOEXEC);
  if (file.fd < 0)
    return error("cannot write this rank's part of a file", path.string(), std::strerror(errno),
                 "rank 0 has begun to write it: give a folder that all machines share");
  return file;
}

AtomicFile::AtomicFile(AtomicFile &&other) noexcept
    : target(std::move(other.target)), temporary(std::move(other.temporary)), fd(std::exchange(other.fd, -1)) {
  other.temporary.clear();
}

AtomicFile::~AtomicFile() {
  if (fd >= 0)
    ::close(fd);
  if (!temporary.empty())
    ::unlink(temporary.c_str());
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(fd, bytes.data(), std::min(bytes.size(), kWritePiece));
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return fail("write", written < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status AtomicFile::writeAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::pwrite(fd, bytes.data(), std::min(bytes.size(), kWritePiece), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return fail("write", written < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return {};
}

Status AtomicFile::readAt(uint64_t offset, std::span<std::byte> target) const {
  while (!target.empty()) {
    ssize_t got = ::pread(fd, target.data(), std::min(target.size(), kWritePiece), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return fail("read", got < 0 ? errno : EIO);
    target = target.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Status AtomicFile::sync() {
  return ::fsync(fd) == 0 ? Status() : fail("write", errno);
}

Status AtomicFile::commit() {
  if (Status status = sync(); !status)
    return status;
  if (::close(std::exchange(fd, -1)) != 0)
    return fail("write", errno);
  if (::rename(temporary.c_str(), target.c_str()) != 0)
    return fail("rename", errno);
  temporary.clear();
  // The new name is on the disk only once the folder is.
  int folder = ::open(folderOf(target).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0)
    return fail("sync the folder of", errno);
  int result = ::fsync(folder), reason = errno;
  ::close(folder);
  if (result != 0 && reason != EINVAL && reason != ENOTSUP) // File systems without folder sync say EINVAL.
    return fail("sync the folder of", reason);
  return {};
}

Status checkWritable(const std::filesystem::path &path) {
  auto file = AtomicFile::create(path);
  return file ? Status() : Status(tl::unexpected(file.error()));
}

} // namespace moe
