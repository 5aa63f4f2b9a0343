//===- YamlTree.cpp -----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/recipe/YamlTree.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLParser.h"

namespace moe::frontend {
namespace {

/// Nesting of a recipe is at most four; more is a hostile file.
constexpr int kMaxDepth = 16;

class Converter {
public:
  Converter(llvm::SourceMgr &sources, const std::string &name) : sources(sources), name(name) {}

  YamlNode convert(llvm::yaml::Node *node, int depth) {
    YamlNode result;
    if (!node)
      return result;
    result.place = place(node->getSourceRange().Start);
    if (depth > kMaxDepth) {
      fail(result.place, "the nesting is too deep");
      return result;
    }
    if (auto *map = llvm::dyn_cast<llvm::yaml::MappingNode>(node)) {
      result.kind = YamlNode::Kind::Map;
      for (llvm::yaml::KeyValueNode &pair : *map) {
        YamlNode key = convert(pair.getKey(), depth + 1);
        YamlNode value = convert(pair.getValue(), depth + 1);
        if (value.kind == YamlNode::Kind::Null)
          value.place = key.place;
        if (key.kind != YamlNode::Kind::Scalar)
          fail(key.place, "a key must be a word");
        else if (result.find(key.scalar))
          fail(key.place, "the key '" + key.scalar + "' is given twice");
        else {
          result.keys.push_back(key.scalar);
          result.items.push_back(std::move(value));
        }
      }
    } else if (auto *list = llvm::dyn_cast<llvm::yaml::SequenceNode>(node)) {
      result.kind = YamlNode::Kind::List;
      for (llvm::yaml::Node &item : *list)
        result.items.push_back(convert(&item, depth + 1));
    } else if (auto *scalar = llvm::dyn_cast<llvm::yaml::ScalarNode>(node)) {
      llvm::SmallString<64> storage;
      result.kind = YamlNode::Kind::Scalar;
      result.scalar = scalar->getValue(storage).str();
    } else if (auto *block = llvm::dyn_cast<llvm::yaml::BlockScalarNode>(node)) {
      result.kind = YamlNode::Kind::Scalar;
      result.scalar = block->getValue().str();
    } else if (!llvm::isa<llvm::yaml::NullNode>(node)) {
      fail(result.place, "aliases are not supported");
    }
    return result;
  }

  void fail(const std::string &where, const std::string &why) {
    if (!problem)
      problem = Diagnostic{"the recipe is not valid YAML", where, why, "correct the file"};
  }

  std::string place(llvm::SMLoc location) const {
    if (!location.isValid() || sources.FindBufferContainingLoc(location) == 0)
      return name;
    auto [line, column] = sources.getLineAndColumn(location);
    return name + ":" + std::to_string(line) + ":" + std::to_string(column);
  }

  std::optional<Diagnostic> problem;

private:
  llvm::SourceMgr &sources;
  const std::string &name;
};

} // namespace

const YamlNode *YamlNode::find(const std::string &key) const {
  for (size_t i = 0; i < keys.size(); ++i)
    if (keys[i] == key)
      return &items[i];
  return nullptr;
}

Expected<YamlNode> parseYaml(const std::string &text, const std::string &name) {
  llvm::SourceMgr sources;
  Converter converter(sources, name);
  sources.setDiagHandler(
      [](const llvm::SMDiagnostic &diagnostic, void *context) {
        auto &self = *static_cast<Converter *>(context);
        self.fail(self.place(diagnostic.getLoc()), diagnostic.getMessage().str());
      },
      &converter);
  llvm::yaml::Stream stream(text, sources, /*ShowColors=*/false);
  YamlNode result;
  result.place = name;
  int documents = 0;
  for (auto document = stream.begin(); document != stream.end() && !converter.problem; ++document) {
    llvm::yaml::Node *root = document->getRoot();
    if (stream.failed() || !root)
      break;
    if (++documents > 1)
      converter.fail(name, "it holds several documents");
    else
      result = converter.convert(root, 0);
  }
  if (stream.failed())
    converter.fail(name, "the text cannot be parsed");
  if (converter.problem)
    return tl::unexpected<Diagnostic>(*converter.problem);
  return result;
}

Status applyOverride(YamlNode &root, const std::string &text) {
  auto [path, value] = llvm::StringRef(text).split('=');
  const std::string place = "--set " + path.str();
  if (path.empty() || !llvm::StringRef(text).contains('='))
    return error("cannot apply '--set " + text + "'", "", "the form is key.path=value",
                 "for example --set optimizer.lr=1e-3", ExitCode::Usage);
  Expected<YamlNode> parsed = parseYaml(value.str(), place);
  if (!parsed)
    return tl::unexpected<Diagnostic>(parsed.error());
  llvm::SmallVector<llvm::StringRef> keys;
  path.split(keys, '.');
  if (keys.size() > kMaxDepth)
    return error("unknown key '" + path.str() + "'", place, "the nesting is too deep", "", ExitCode::Usage);
  YamlNode *node = &root;
  for (llvm::StringRef key : keys) {
    // What was no map before becomes one: the last setting wins.
    if (node->kind != YamlNode::Kind::Map) {
      *node = YamlNode();
      node->kind = YamlNode::Kind::Map;
      node->place = place;
    }
    YamlNode *next = node->find(key.str());
    if (!next) {
      node->keys.push_back(key.str());
      next = &node->items.emplace_back();
      next->place = place;
    }
    node = next;
  }
  *node = std::move(*parsed);
  // All of an override's places are the option itself.
  auto relocate = [&](auto &self, YamlNode &each) -> void {
    each.place = place;
    for (YamlNode &item : each.items)
      self(self, item);
  };
  relocate(relocate, *node);
  return {};
}

} // namespace moe::frontend
