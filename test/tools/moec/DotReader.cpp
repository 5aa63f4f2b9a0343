//===- DotReader.cpp - Reads the DOT language ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/tools/moec/DotReader.h"

#include <cctype>

namespace moe::test {

namespace {

class Reader {
public:
  Reader(const std::string &text, DotGraph &graph) : text(text), graph(graph) {}

  bool read(std::string &error) {
    bool ok = take("digraph") && id(graph.name) && take("{") && statements("") && take("}");
    space();
    if (ok && at == text.size())
      return true;
    error = problem + " at byte " + std::to_string(at) + ": " + text.substr(at, 40);
    return false;
  }

private:
  using Attributes = std::map<std::string, std::string>;

  void space() {
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at])))
      ++at;
  }
  bool peek(const std::string &word) {
    space();
    return text.compare(at, word.size(), word) == 0;
  }
  bool take(const std::string &word) {
    if (!peek(word))
      return fail("'" + word + "' expected");
    at += word.size();
    return true;
  }
  bool fail(const std::string &what) {
    if (problem.empty())
      problem = what;
    return false;
  }

  bool id(std::string &value) {
    space();
    value.clear();
    if (at < text.size() && text[at] == '"')
      return quoted(value);
    while (at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_'))
      value += text[at++];
    return !value.empty() || fail("a name expected");
  }

  bool quoted(std::string &value) {
    for (++at; at < text.size() && text[at] != '"'; ++at) {
      if (text[at] != '\\') {
        value += text[at];
        continue;
      }
      if (++at == text.size())
        break;
      value += text[at] == 'n' ? '\n' : text[at];
    }
    if (at == text.size())
      return fail("a string without an end");
    ++at;
    return true;
  }

  bool attributes(Attributes &found) {
    if (!peek("["))
      return true;
    take("[");
    while (!peek("]")) {
      std::string key, value;
      if (!id(key) || !take("=") || !id(value))
        return false;
      found[key] = value;
      if (peek(","))
        take(",");
    }
    return take("]");
  }

  bool statements(const std::string &cluster) {
    std::string label = cluster;
    while (!peek("}")) {
      std::string first, second;
      Attributes found;
      if (peek("subgraph")) {
        if (!take("subgraph") || !id(first) || !take("{") || !statements(first) || !take("}"))
          return false;
        continue;
      }
      if (!id(first))
        return false;
      if (peek("=")) {
        if (!take("=") || !id(second) || !take(";"))
          return false;
        if (first == "label")
          label = second;
        continue;
      }
      const bool edge = peek("->");
      if (edge && (!take("->") || !id(second)))
        return false;
      if (!attributes(found) || !take(";"))
        return false;
      if (edge && (graph.nodes.count(first) == 0 || graph.nodes.count(second) == 0))
        return fail("an edge between undeclared nodes " + first + " and " + second);
      if (edge)
        graph.edges.push_back({{first, second}, found["label"]});
      else if (first != "node" && first != "edge" && first != "graph") {
        if (!graph.nodes.emplace(first, found["label"]).second)
          return fail("the node " + first + " a second time");
        graph.clusterOf[first] = label;
      }
    }
    return true;
  }

  const std::string &text;
  DotGraph &graph;
  size_t at = 0;
  std::string problem;
};

} // namespace

bool readDot(const std::string &text, DotGraph &graph, std::string &error) {
  return Reader(text, graph).read(error);
}

} // namespace moe::test
