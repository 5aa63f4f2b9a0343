//===- Image.h - Native code of a plan, loaded from memory --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_IMAGE_H
#define MOEC_RUNTIME_CPU_IMAGE_H

#include "runtime/core/Diagnostic.h"

#include <string>
#include <string_view>
#include <vector>

namespace moe::cpu {

/// A shared object that stays loaded as long as this lives.
class Image {
public:
  /// Loads an ELF shared object from memory. The diagnostic names all symbols that it misses.
  static Expected<Image> load(std::string_view elf, std::string_view name);
  Image(Image &&other) noexcept;
  Image &operator=(Image &&other) noexcept;
  ~Image();

  /// Address of a symbol, or null.
  void *symbol(const std::string &name) const;

private:
  Image(int fd, void *library) : fd(fd), library(library) {}
  int fd = -1;
  void *library = nullptr;
};

/// Names that a 64-bit little-endian ELF shared object leaves undefined and does not call weak; empty if it can not be
/// read. Trusts nothing in the bytes.
std::vector<std::string> undefinedSymbols(std::string_view elf);

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_IMAGE_H
