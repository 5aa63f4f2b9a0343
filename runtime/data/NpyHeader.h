//===- NpyHeader.h - What a .npy file holds ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_NPYHEADER_H
#define MOEC_RUNTIME_DATA_NPYHEADER_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace moe {

/// The header of a NumPy array of integers with one or two dimensions in row-major order.
struct NpyHeader {
  size_t dataOffset = 0;
  int width = 0; ///< bytes of an element: 1, 2, 4 or 8
  bool isSigned = false;
  int64_t elements = 0;
};

bool isNpy(std::span<const std::byte> file);

/// Reads and checks the header against the length of the file (format of `numpy.lib.format`, versions 1 to 3). Errors
/// name `where`: no header, floats, big endian, column-major, other ranks, fewer bytes than the shape says.
Expected<NpyHeader> parseNpyHeader(std::span<const std::byte> file, std::string_view where);

} // namespace moe

#endif // MOEC_RUNTIME_DATA_NPYHEADER_H
