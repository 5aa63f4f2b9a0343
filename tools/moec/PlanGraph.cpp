//===- PlanGraph.cpp - Which step uses what which step made -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/PlanGraph.h"

#include "runtime/plan/Collectives.h"
#include "runtime/plan/StepKind.h"
#include "tools/moec/Communication.h"
#include "tools/moec/Report.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

namespace moe::tools {

namespace {

/// The last writer of each byte of an arena, as disjoint intervals.
class LastWriters {
public:
  /// Bytes [begin, end) have no known writer from now on.
  void forget(uint64_t begin, uint64_t end) {
    splitAt(begin);
    splitAt(end);
    pieces.erase(pieces.lower_bound(begin), pieces.lower_bound(end));
  }

  void write(uint64_t begin, uint64_t end, int step) {
    forget(begin, end);
    if (begin < end)
      pieces[begin] = {end, step};
  }

  /// Calls `visit(step, bytes)` for each piece of [begin, end) that has a writer.
  template <typename Visit> void read(uint64_t begin, uint64_t end, Visit visit) {
    splitAt(begin);
    splitAt(end);
    for (auto piece = pieces.lower_bound(begin); piece != pieces.end() && piece->first < end; ++piece)
      visit(piece->second.step, piece->second.end - piece->first);
  }

private:
  struct Piece {
    uint64_t end;
    int step;
  };

  /// Afterwards no piece reaches across `at`.
  void splitAt(uint64_t at) {
    auto next = pieces.upper_bound(at);
    if (next == pieces.begin())
      return;
    auto &[begin, piece] = *std::prev(next);
    if (begin == at || piece.end <= at)
      return;
    pieces[at] = piece;
    piece.end = at;
  }

  std::map<uint64_t, Piece> pieces; ///< by their first byte
};

/// A range of an arena.
struct Range {
  uint32_t arena;
  uint64_t begin, end;
};

Range rangeOf(const plan::Plan &plan, const plan::Slice &slice) {
  const plan::Buffer &buffer = plan.buffers(static_cast<int>(slice.buffer()));
  const uint64_t begin = buffer.offset() + slice.offset();
  return {buffer.arena(), begin, begin + slice.bytes()};
}

/// What a step reads, every byte once.
std::vector<Range> readRanges(const plan::Plan &plan, const plan::Step &step) {
  std::vector<Range> ranges;
  for (const plan::Operand &operand : step.operands())
    if (operand.access() == plan::Operand::READ || operand.access() == plan::Operand::READ_WRITE)
      ranges.push_back(rangeOf(plan, operand.slice()));
  std::sort(ranges.begin(), ranges.end(),
            [](const Range &a, const Range &b) { return std::pair(a.arena, a.begin) < std::pair(b.arena, b.begin); });
  std::vector<Range> merged;
  for (const Range &range : ranges) {
    if (!merged.empty() && merged.back().arena == range.arena && range.begin <= merged.back().end)
      merged.back().end = std::max(merged.back().end, range.end);
    else
      merged.push_back(range);
  }
  return merged;
}

/// A string of the DOT language, quotes included; `\n` stays a line break.
std::string inQuotes(const std::string &text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '"' || c == '\\')
      result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string nodeLine(const plan::Plan &plan, const plan::Program &program, int index) {
  const plan::Step &step = program.steps(index);
  std::string label = step.name() + "\n" + stepKind(step), look;
  if (step.has_collective()) {
    label += " over " + axesText(plan, step) + ", sends " + bytesText(static_cast<double>(sentBytes(plan, step)));
    look = isExposed(program, index) ? ", style=filled, fillcolor=orange" : ", style=filled, fillcolor=lightblue";
  }
  if (step.flops() > 0) {
    char flops[32];
    std::snprintf(flops, sizeof(flops), "%.3g", step.flops());
    label += std::string(", ") + flops + " FLOPs";
  }
  return "s" + std::to_string(index) + " [label=" + inQuotes(label) + look + "];\n";
}

} // namespace

std::vector<PlanEdge> dataFlow(const plan::Plan &plan, const plan::Program &program) {
  std::map<uint32_t, LastWriters> arenas;
  std::vector<PlanEdge> edges;
  for (int i = 0; i < program.steps_size(); ++i) {
    const plan::Step &step = program.steps(i);
    std::map<int, uint64_t> sources;
    for (const Range &range : readRanges(plan, step))
      arenas[range.arena].read(range.begin, range.end, [&](int from, uint64_t bytes) { sources[from] += bytes; });
    for (auto [from, bytes] : sources)
      edges.push_back({from, i, bytes});
    // Scratch leaves garbage: whoever wrote there before is no source of anything any more.
    for (const plan::Operand &operand : step.operands())
      if (operand.access() == plan::Operand::SCRATCH) {
        const Range range = rangeOf(plan, operand.slice());
        arenas[range.arena].forget(range.begin, range.end);
      }
    for (const plan::Operand &operand : step.operands())
      if (operand.access() == plan::Operand::WRITE || operand.access() == plan::Operand::READ_WRITE) {
        const Range range = rangeOf(plan, operand.slice());
        arenas[range.arena].write(range.begin, range.end, i);
      }
  }
  return edges;
}

std::string layerOf(const std::string &stepName) {
  size_t begin = 0;
  while (begin < stepName.size()) {
    const size_t end = std::min(stepName.find_first_of("./", begin), stepName.size());
    const bool number = end > begin && std::all_of(stepName.begin() + static_cast<std::ptrdiff_t>(begin),
                                                   stepName.begin() + static_cast<std::ptrdiff_t>(end),
                                                   [](char c) { return c >= '0' && c <= '9'; });
    if (number)
      return stepName.substr(0, end);
    begin = end + 1;
  }
  return {};
}

std::string planGraphDot(const plan::Plan &plan, const plan::Program &program) {
  std::string text = "digraph " + inQuotes(program.name()) + " {\n  node [shape=box];\n";
  std::map<std::string, std::vector<int>> layers;
  std::vector<std::string> order;
  for (int i = 0; i < program.steps_size(); ++i) {
    std::vector<int> &steps = layers[layerOf(program.steps(i).name())];
    if (steps.empty())
      order.push_back(layerOf(program.steps(i).name()));
    steps.push_back(i);
  }
  for (const std::string &layer : order) {
    const std::string indent = layer.empty() ? "  " : "    ";
    if (!layer.empty())
      text += "  subgraph " + inQuotes("cluster_" + layer) + " {\n    label=" + inQuotes(layer) + ";\n";
    for (int step : layers[layer])
      text += indent + nodeLine(plan, program, step);
    if (!layer.empty())
      text += "  }\n";
  }
  for (const PlanEdge &edge : dataFlow(plan, program))
    text += "  s" + std::to_string(edge.from) + " -> s" + std::to_string(edge.to) +
            " [label=" + inQuotes(bytesText(static_cast<double>(edge.bytes))) + "];\n";
  return text + "}\n";
}

} // namespace moe::tools
