//===- MappedFile.cpp - A file in memory, read only --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/MappedFile.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace moe {

Expected<MappedFile> MappedFile::open(const std::filesystem::path &path) {
  // O_NONBLOCK: opening a pipe without a writer must report "not a regular file" instead of waiting for one.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return error("cannot open the file", path.string(), std::strerror(errno));
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return error("not a regular file", path.string());
  }
  MappedFile file;
  file.name = path;
  file.size = static_cast<size_t>(info.st_size);
  if (file.size > 0) {
    void *address = ::mmap(nullptr, file.size, PROT_READ, MAP_PRIVATE, fd, 0);
    int reason = errno;
    if (address == MAP_FAILED) {
      ::close(fd);
      file.size = 0;
      return error("cannot map the file", path.string(), std::strerror(reason));
    }
    file.data = static_cast<const std::byte *>(address);
  }
  ::close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile &&other) noexcept {
  *this = std::move(other);
}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(name, other.name);
  std::swap(data, other.data);
  std::swap(size, other.size);
  return *this;
}

MappedFile::~MappedFile() {
  if (data)
    ::munmap(const_cast<std::byte *>(data), size);
}

} // namespace moe
