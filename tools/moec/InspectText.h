//===- InspectText.h - How moec inspect writes --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_INSPECTTEXT_H
#define MOEC_TOOLS_MOEC_INSPECTTEXT_H

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moe::tools {

/// Sixteen hexadecimal digits.
std::string hexText(uint64_t value);
/// "  NAME  VALUE" and a line break, values in one column. Long names push their value to the right, nothing is cut
/// off.
std::string fieldText(const std::string &name, const std::string &value);
/// "[batch, 256]": numbers and names of dimensions; "of unknown shape" for null.
std::string shapeText(const nlohmann::ordered_json &shape);
/// A field per tensor: name, then dtype and shape, then what `initial` and `kind` say if they are there.
std::string tensorLines(const nlohmann::ordered_json &tensors);
/// "normal(0, 0.02), row 1 zero": how a first value comes about; "unknown" for null.
std::string initialText(const nlohmann::ordered_json &initial);
/// Each line of `text`, moved two columns to the right.
std::string indented(const std::string &text);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_INSPECTTEXT_H
