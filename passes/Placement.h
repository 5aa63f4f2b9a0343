//===- Placement.h - Packing lifetimes into one arena -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_PLACEMENT_H
#define MOEC_PASSES_PLACEMENT_H

#include <cstdint>
#include <vector>

namespace moe::ir {

/// Bytes that are needed from step `first` to step `last`, both included.
struct PlacementItem {
  uint64_t bytes = 0;
  int64_t first = 0, last = 0;
};

struct Placement {
  std::vector<uint64_t> offsets;
  uint64_t bytes = 0;
  /// Most bytes live at one step: no placement is smaller.
  uint64_t lowerBound = 0;
};

/// Greedy best fit in several orders (size, lifetime, size x lifetime, start); the smallest result wins. Items whose
/// lifetimes meet never overlap. Bytes are assumed to be multiples of the alignment.
Placement placeBuffers(const std::vector<PlacementItem> &items);

} // namespace moe::ir

#endif // MOEC_PASSES_PLACEMENT_H
