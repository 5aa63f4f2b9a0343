//===- YamlTree.h - YAML as a tree that remembers places ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_RECIPE_YAMLTREE_H
#define MOEC_FRONTEND_RECIPE_YAMLTREE_H

#include "runtime/core/Diagnostic.h"
#include <string>
#include <utility>
#include <vector>

namespace moe::frontend {

struct YamlNode {
  enum class Kind { Null, Scalar, List, Map };
  Kind kind = Kind::Null;
  std::string scalar;
  std::vector<std::string> keys; ///< of a map, in order
  std::vector<YamlNode> items;   ///< of a list, or the values of a map
  std::string place;             ///< "recipe.yaml:3:9" or "--set optimizer.lr"

  /// The value of a key of a map, or null.
  const YamlNode *find(const std::string &key) const;
  YamlNode *find(const std::string &key) { return const_cast<YamlNode *>(std::as_const(*this).find(key)); }
};

/// Parses one document; empty text is Null. A duplicate key is an error.
Expected<YamlNode> parseYaml(const std::string &text, const std::string &name);

/// Applies `key.path=value`, whose value is YAML, to `root`. Intermediate maps are created.
Status applyOverride(YamlNode &root, const std::string &text);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_RECIPE_YAMLTREE_H
