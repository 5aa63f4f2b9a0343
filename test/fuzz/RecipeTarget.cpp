//===- RecipeTarget.cpp - Fuzzes the reader of recipes ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Input: the YAML text, then overrides as after `--set`, each after a zero byte.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/recipe/Recipe.h"
#include "test/fuzz/Target.h"

#include <string>
#include <vector>

using namespace moe;

static std::optional<frontend::Recipe> parse(const std::string &text, const std::vector<std::string> &overrides) {
  std::vector<Diagnostic> diagnostics;
  std::optional<frontend::Recipe> recipe = frontend::parseRecipe(text, "recipe.yaml", overrides, diagnostics);
  bool refused = false;
  for (const Diagnostic &diagnostic : diagnostics) {
    fuzz::checkRefusal(diagnostic);
    refused |= diagnostic.code != ExitCode::Success;
  }
  if (refused == recipe.has_value())
    fuzz::finding(refused ? "a recipe in spite of errors" : "no recipe and no error");
  return recipe;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::TimeLimit limit;
  std::string_view rest = fuzz::textOf(data, size);
  std::vector<std::string> parts;
  while (true) {
    const size_t end = rest.find('\0');
    parts.emplace_back(rest.substr(0, end));
    if (end == std::string_view::npos)
      break;
    rest.remove_prefix(end + 1);
  }
  const std::string text = parts.front();
  parts.erase(parts.begin());
  std::optional<frontend::Recipe> recipe = parse(text, parts);
  if (!recipe)
    return 0;
  // What goes into a plan is the printed recipe: it must mean the same.
  const std::string printed = frontend::print(*recipe);
  std::optional<frontend::Recipe> again = parse(printed, {});
  if (!again || frontend::print(*again) != printed)
    fuzz::finding("a recipe that is printed as another one:\n" + printed);
  return 0;
}
