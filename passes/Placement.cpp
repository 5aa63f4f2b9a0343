//===- Placement.cpp - Packing lifetimes into one arena ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Placement.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>

namespace moe::ir {

namespace {

bool meet(const PlacementItem &a, const PlacementItem &b) {
  return a.first <= b.last && b.first <= a.last;
}

/// Puts the items in the given order, each into the smallest gap that holds it among those it meets.
Placement placeInOrder(const std::vector<PlacementItem> &items, const std::vector<size_t> &order) {
  Placement result;
  result.offsets.assign(items.size(), 0);
  // Placed items by offset.
  std::multimap<uint64_t, size_t> placed;
  for (size_t index : order) {
    const PlacementItem &item = items[index];
    uint64_t at = 0, best = UINT64_MAX, bestGap = UINT64_MAX;
    for (auto [offset, other] : placed) {
      if (!meet(item, items[other]))
        continue;
      if (offset >= at) {
        uint64_t gap = offset - at;
        if (gap >= item.bytes && gap < bestGap) {
          best = at;
          bestGap = gap;
        }
      }
      at = std::max(at, offset + items[other].bytes);
    }
    uint64_t offset = best == UINT64_MAX ? at : best;
    result.offsets[index] = offset;
    placed.emplace(offset, index);
    result.bytes = std::max(result.bytes, offset + item.bytes);
  }
  return result;
}

uint64_t liveLowerBound(const std::vector<PlacementItem> &items) {
  std::map<int64_t, int64_t> changes;
  for (const PlacementItem &item : items) {
    changes[item.first] += static_cast<int64_t>(item.bytes);
    changes[item.last + 1] -= static_cast<int64_t>(item.bytes);
  }
  int64_t live = 0, most = 0;
  for (auto [step, change] : changes) {
    live += change;
    most = std::max(most, live);
  }
  return static_cast<uint64_t>(most);
}

} // namespace

Placement placeBuffers(const std::vector<PlacementItem> &items) {
  auto length = [](const PlacementItem &item) { return static_cast<double>(item.last - item.first + 1); };
  auto area = [&](const PlacementItem &item) { return static_cast<double>(item.bytes) * length(item); };
  const std::vector<std::function<double(const PlacementItem &)>> keys = {
      [](const PlacementItem &item) { return static_cast<double>(item.bytes); },
      length,
      area,
      [](const PlacementItem &item) { return -static_cast<double>(item.first); },
  };
  Placement best;
  uint64_t lowerBound = liveLowerBound(items);
  for (const auto &key : keys) {
    std::vector<size_t> order(items.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      double x = key(items[a]), y = key(items[b]);
      return x != y ? x > y : items[a].bytes != items[b].bytes ? items[a].bytes > items[b].bytes : a < b;
    });
    Placement candidate = placeInOrder(items, order);
    if (best.offsets.empty() || candidate.bytes < best.bytes)
      best = std::move(candidate);
    if (best.bytes == lowerBound)
      break;
  }
  best.lowerBound = lowerBound;
  return best;
}

} // namespace moe::ir
