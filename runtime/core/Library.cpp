//===- Library.cpp - Where libraries lie that are loaded by name --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Library.h"

#include <system_error>

namespace moe {

tl::expected<std::filesystem::path, std::string> findLibrary(std::string_view file) {
  std::error_code code;
  std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", code);
  std::filesystem::path folder = code ? std::filesystem::path(".") : program.parent_path();
  for (const std::filesystem::path &candidate : {folder / file, (folder / ".." / "lib" / file).lexically_normal()})
    if (std::filesystem::exists(candidate, code))
      return candidate;
  return tl::unexpected(folder.string());
}

} // namespace moe
