//===- InspectBlocks.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/InspectBlocks.h"

#include "passes/recompose/Survey.h"
#include "tools/moec/InspectText.h"

#include <nlohmann/json.hpp>

namespace moe::tools {

using Json = nlohmann::ordered_json;

Json describeBlocks(mlir::ModuleOp module) {
  Json blocks = Json::array();
  for (const ir::recompose::Block &block : ir::recompose::survey(module, "forward")) {
    Json entry = {{"layer", block.layer},
                  {"kind", ir::recompose::kindName(block.kind).str()},
                  {"form", block.form},
                  {"where", block.where}};
    for (const auto &[name, value] : block.facts)
      std::visit([&, &key = name](auto fact) { entry[key] = fact; }, value);
    if (!block.why.empty())
      entry["why"] = block.why;
    blocks.push_back(std::move(entry));
  }
  return blocks;
}

/// "4 heads of 16, 2 key heads": what tells blocks of a kind from each other.
static std::string sizesText(const Json &block) {
  auto number = [&](const char *name) { return std::to_string(block[name].get<int64_t>()); };
  if (block.contains("why"))
    return "stays in fine operations: " + block["why"].get<std::string>();
  if (block.contains("head_dim")) {
    std::string text = number("heads") + " heads of " + number("head_dim");
    if (block["heads"] != block["key_heads"])
      text += ", " + number("key_heads") + " of keys";
    if (block.contains("window"))
      text += ", window " + number("window");
    return text + ", " + number("queries") + " queries, " + number("keys") + " keys";
  }
  if (block.contains("capacity"))
    return number("experts") + " with " + number("capacity") + " tokens each";
  if (block.contains("experts"))
    return number("experts") + ", " + number("rows") + " rows at most";
  if (block.contains("inner"))
    return number("width") + " to " + number("inner");
  return block.contains("width") ? "width " + number("width") : "";
}

std::string blocksText(const Json &blocks) {
  std::string text, line;
  int64_t layer = -1;
  int count = 0;
  auto flush = [&] {
    if (count > 0)
      text += "  " + line + (count > 1 ? " (" + std::to_string(count) + " times)" : "") + "\n";
    count = 0;
  };
  for (const Json &block : blocks) {
    std::string sizes = sizesText(block);
    std::string next =
        block["form"].get<std::string>() + " " + block["kind"].get<std::string>() + (sizes.empty() ? "" : ": " + sizes);
    if (block["layer"] != layer) {
      flush();
      layer = block["layer"].get<int64_t>();
      text += "layer " + std::to_string(layer) + "\n";
    } else if (next != line) {
      flush();
    }
    line = std::move(next);
    ++count;
  }
  flush();
  return text;
}

} // namespace moe::tools
