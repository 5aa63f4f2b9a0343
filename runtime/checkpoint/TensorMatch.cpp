//===- TensorMatch.cpp - Comparing the tensors of a file with those of a plan ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/TensorMatch.h"

#include "runtime/checkpoint/Elements.h"

#include <algorithm>
#include <set>

namespace moe {

static std::string listed(const char *kind, const std::vector<std::string> &items) {
  constexpr size_t most = 50;
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), most); ++i)
    text += std::string("\n  ") + kind + " " + items[i];
  if (items.size() > most)
    text += "\n  ... and " + std::to_string(items.size() - most) + " more " + kind;
  return text;
}

static bool isFloat(std::string_view type) {
  return type == "F32" || type == "F64" || type == "F16" || type == "BF16";
}

std::string compareTensors(const SafetensorsFile &file, std::span<const plan::StateTensor *const> wanted,
                           const MatchRules &rules) {
  std::vector<std::string> missing, unexpected, different;
  std::set<std::string_view> known(rules.optional.begin(), rules.optional.end());
  for (const plan::StateTensor *tensor : wanted) {
    known.insert(tensor->name());
    std::span<const int64_t> shape(tensor->shape().data(), size_t(tensor->shape_size()));
    std::string_view type = elementName(tensor->dtype());
    std::string need = std::string(type) + " " + shapeText(shape);
    const TensorEntry *entry = file.find(tensor->name());
    if (!entry) {
      missing.push_back(tensor->name() + ": " + need);
      continue;
    }
    bool sameType = entry->type == type || (!rules.sameType && isFloat(entry->type) && isFloat(type));
    if (!sameType || !std::ranges::equal(entry->shape, shape))
      different.push_back(tensor->name() + ": " + entry->type + " " + shapeText(entry->shape) + ", expected " + need);
  }
  for (const TensorEntry &entry : file.tensors())
    if (!known.contains(entry.name))
      unexpected.push_back(entry.name + ": " + entry.type + " " + shapeText(entry.shape));
  std::string text = listed("missing", missing) + listed("unexpected", unexpected) + listed("mis-shaped", different);
  return text.empty() ? text : text.substr(1);
}

} // namespace moe
