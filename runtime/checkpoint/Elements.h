//===- Elements.h - Element types and conversions between them ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_ELEMENTS_H
#define MOEC_RUNTIME_CHECKPOINT_ELEMENTS_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/plan.pb.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moe {

/// Bytes of one element; 0 for a value outside the enumeration.
size_t elementSize(plan::DType type);
/// The safetensors name, "F32" for float32; empty for a value outside the enumeration.
std::string_view elementName(plan::DType type);
/// Bytes of one element of a safetensors type ("F32", "I64", "BOOL", ...); 0 if the type is not known.
size_t elementSize(std::string_view safetensorsType);

/// Number of elements of a shape; -1 if a length is negative or the product exceeds 2^63 - 1.
int64_t elementCount(std::span<const int64_t> shape);
/// "[2, 3]".
std::string shapeText(std::span<const int64_t> shape);

/// Converts `count` elements of the safetensors type `from` to `to`. Floats convert to floats (rounding to nearest
/// even), integers and booleans to integers with a range check, nothing else. The spans hold at least `count` elements.
/// Errors name `where`, and the element and value that does not fit.
Status convertElements(std::string_view from, std::span<const std::byte> source, plan::DType to,
                       std::span<std::byte> target, int64_t count, std::string_view where);

/// Rounds to the nearest `type` (F32, BF16, F16; ties to even) or, for I32, I64, BOOL, converts a whole number; stores
/// it as element `index`.
void storeNumber(plan::DType type, std::span<std::byte> target, int64_t index, double value);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_ELEMENTS_H
