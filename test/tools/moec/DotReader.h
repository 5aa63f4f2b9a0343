//===- DotReader.h - Reads the DOT language -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_TOOLS_MOEC_DOTREADER_H
#define MOEC_TEST_TOOLS_MOEC_DOTREADER_H

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace moe::test {

/// What a directed graph says. Labels are without quotes and escapes; line breaks are real ones.
struct DotGraph {
  std::string name;
  std::map<std::string, std::string> nodes;     ///< label by id
  std::map<std::string, std::string> clusterOf; ///< label of the cluster by id of the node
  std::vector<std::pair<std::pair<std::string, std::string>, std::string>> edges; ///< (from, to), label
};

/// Parses a digraph with clusters by the grammar of Graphviz (identifiers, numbers and quoted strings; no HTML). False
/// with `error` if the text does not follow it, or an edge names a node that was not declared.
bool readDot(const std::string &text, DotGraph &graph, std::string &error);

} // namespace moe::test

#endif // MOEC_TEST_TOOLS_MOEC_DOTREADER_H
