//===- Undefined.cpp - Device memory that holds nothing in particular ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Undefined.h"

#include <algorithm>
#include <iterator>

namespace moe::sim {

void Undefined::remove(Bytes bytes) {
  if (bytes.begin >= bytes.end)
    return;
  auto range = ranges.lower_bound(bytes.begin);
  if (range != ranges.begin() && std::prev(range)->second > bytes.begin)
    --range;
  while (range != ranges.end() && range->first < bytes.end) {
    auto [begin, end] = *range;
    range = ranges.erase(range);
    if (begin < bytes.begin)
      ranges.emplace(begin, bytes.begin);
    if (end > bytes.end)
      ranges.emplace(bytes.end, end);
  }
}

void Undefined::add(Bytes bytes) {
  if (bytes.begin >= bytes.end)
    return;
  remove(bytes);
  // Joins its neighbours, so that there are no more ranges than needed.
  auto next = ranges.lower_bound(bytes.begin);
  if (next != ranges.end() && next->first == bytes.end) {
    bytes.end = next->second;
    next = ranges.erase(next);
  }
  if (next != ranges.begin() && std::prev(next)->second == bytes.begin)
    std::prev(next)->second = bytes.end;
  else
    ranges.emplace(bytes.begin, bytes.end);
}

std::vector<Undefined::Bytes> Undefined::within(Bytes bytes) const {
  std::vector<Bytes> result;
  if (bytes.begin >= bytes.end)
    return result;
  auto range = ranges.lower_bound(bytes.begin);
  if (range != ranges.begin() && std::prev(range)->second > bytes.begin)
    --range;
  for (; range != ranges.end() && range->first < bytes.end; ++range)
    result.push_back({std::max(range->first, bytes.begin), std::min(range->second, bytes.end)});
  return result;
}

} // namespace moe::sim
