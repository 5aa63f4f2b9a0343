//===- Image.cpp - Native code of a plan, loaded from memory ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Image.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace moe::cpu {
namespace {

/// Copies a record out of `bytes`; false if it does not lie inside.
template <typename T> bool readAt(std::string_view bytes, uint64_t offset, T &value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
    return false;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return true;
}

bool writeAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return false;
    data.remove_prefix(put);
  }
  return true;
}

} // namespace

std::vector<std::string> undefinedSymbols(std::string_view elf) {
  std::vector<std::string> names;
  Elf64_Ehdr header;
  if (!readAt(elf, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
    return names;
  auto section = [&](uint64_t index, Elf64_Shdr &out) {
    return index < header.e_shnum && header.e_shentsize == sizeof(out) && header.e_shoff <= elf.size() &&
           readAt(elf, header.e_shoff + index * sizeof(out), out);
  };
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr table, strings;
    if (!section(i, table) || table.sh_type != SHT_DYNSYM || !section(table.sh_link, strings) ||
        strings.sh_offset > elf.size() || strings.sh_size > elf.size() - strings.sh_offset)
      continue;
    std::string_view text = elf.substr(strings.sh_offset, strings.sh_size);
    Elf64_Sym symbol;
    for (uint64_t s = 1; s < table.sh_size / sizeof(symbol); ++s) { // symbol 0 is empty by definition
      if (table.sh_offset > elf.size() || !readAt(elf, table.sh_offset + s * sizeof(symbol), symbol))
        break;
      if (symbol.st_shndx != SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) == STB_WEAK || symbol.st_name >= text.size())
        continue;
      std::string_view name = text.substr(symbol.st_name);
      names.emplace_back(name.substr(0, name.find('\0')));
    }
  }
  return names;
}

Expected<Image> Image::load(std::string_view elf, std::string_view name) {
  int fd = ::memfd_create("moe-image", MFD_CLOEXEC);
  if (fd < 0)
    return error("cannot load the kernels of the plan", std::string(name), std::strerror(errno));
  if (!writeAll(fd, elf)) {
    std::string why = std::strerror(errno);
    ::close(fd);
    return error("cannot load the kernels of the plan", std::string(name), why);
  }
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (void *library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
    return Image(fd, library);

  const char *message = ::dlerror();
  std::string why = message ? message : "";
  std::string missing;
  for (const std::string &symbol : undefinedSymbols(elf))
    if (!::dlsym(RTLD_DEFAULT, symbol.c_str()))
      missing += (missing.empty() ? "" : ", ") + symbol;
  ::close(fd);
  if (!missing.empty())
    why = "these functions are not defined on this system: " + missing;
  return error("cannot load the kernels of the plan", std::string(name), why,
               "compile the model again with the moec of this release");
}

Image::Image(Image &&other) noexcept
    : fd(std::exchange(other.fd, -1)), library(std::exchange(other.library, nullptr)) {}

Image &Image::operator=(Image &&other) noexcept {
  std::swap(fd, other.fd);
  std::swap(library, other.library);
  return *this;
}

Image::~Image() {
  if (library)
    ::dlclose(library);
  // Not earlier: the loader takes a library of the same path, which holds the number, for the one it already has.
  if (fd >= 0)
    ::close(fd);
}

void *Image::symbol(const std::string &name) const {
  return ::dlsym(library, name.c_str());
}

} // namespace moe::cpu
