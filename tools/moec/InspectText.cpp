//===- InspectText.cpp - How moec inspect writes ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/InspectText.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

namespace moe::tools {

using Json = nlohmann::ordered_json;

std::string hexText(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string fieldText(const std::string &name, const std::string &value) {
  constexpr size_t kColumn = 52;
  std::string padded = "  " + name + "  ";
  if (padded.size() < kColumn)
    padded.resize(kColumn, ' ');
  return padded + value + "\n";
}

std::string shapeText(const Json &shape) {
  if (shape.is_null())
    return "of unknown shape";
  std::string text;
  for (const Json &extent : shape)
    text += (text.empty() ? "" : ", ") + (extent.is_string() ? extent.get<std::string>() : extent.dump());
  return "[" + text + "]";
}

/// Six digits tell one distribution from another; the JSON has all of them.
static std::string shortNumber(const Json &value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value.get<double>());
  return text;
}

std::string initialText(const Json &initial) {
  if (initial.is_null())
    return "unknown";
  const std::string kind = initial["kind"].get<std::string>();
  std::string text = kind;
  if (kind == "constant")
    text += " " + shortNumber(initial["value"]);
  else if (kind == "normal")
    text += "(" + shortNumber(initial["mean"]) + ", " + shortNumber(initial["stddev"]) + ")";
  else if (kind == "uniform")
    text += "(" + shortNumber(initial["low"]) + ", " + shortNumber(initial["high"]) + ")";
  if (initial.contains("zero_rows"))
    for (const Json &row : initial["zero_rows"])
      text += ", row " + row.dump() + " zero";
  return text;
}

std::string tensorLines(const Json &tensors) {
  std::string text;
  for (const Json &tensor : tensors) {
    std::string value = tensor["dtype"].get<std::string>() + " " + shapeText(tensor["shape"]);
    if (tensor.contains("kind"))
      value += "  " + tensor["kind"].get<std::string>();
    if (tensor.contains("initial"))
      value += "  " + initialText(tensor["initial"]);
    if (tensor.contains("program"))
      value += "  of " + tensor["program"].get<std::string>();
    text += fieldText(tensor["name"].get<std::string>(), value);
  }
  return text;
}

std::string indented(const std::string &text) {
  std::istringstream lines(text);
  std::string line, result;
  while (std::getline(lines, line))
    result += "  " + line + "\n";
  return result;
}

} // namespace moe::tools
