//===- Library.h - Where libraries lie that are loaded by name ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_LIBRARY_H
#define MOEC_RUNTIME_CORE_LIBRARY_H

#include <filesystem>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace moe {

/// The file of that name (which may have folders) beside the running program or in `../lib` seen from there. Otherwise
/// the folder of the program, for a message.
tl::expected<std::filesystem::path, std::string> findLibrary(std::string_view file);

} // namespace moe

#endif // MOEC_RUNTIME_CORE_LIBRARY_H
