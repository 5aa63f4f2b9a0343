//===- Segments.h - What the bytes of an arena hold ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_VALIDATOR_SEGMENTS_H
#define MOEC_RUNTIME_PLAN_VALIDATOR_SEGMENTS_H

#include <cstdint>
#include <iterator>
#include <map>
#include <utility>

namespace moe::validator {

/// The bytes [0, size) of an arena, cut into segments. A `Segment` has its `end` and whatever is said of its bytes.
template <typename Segment> class Bytes {
public:
  Bytes(uint64_t size, Segment all) {
    all.end = size;
    if (size != 0)
      segments.emplace(0, std::move(all));
  }
  using Iterator = typename std::map<uint64_t, Segment>::iterator;

  /// Cuts at both ends and returns the segments between them. begin < end <= size.
  std::pair<Iterator, Iterator> cut(uint64_t begin, uint64_t end) {
    Iterator first = cutAt(begin);
    return {first, cutAt(end)};
  }
  /// Makes one segment of the range.
  void assign(uint64_t begin, uint64_t end, Segment value) {
    auto [first, last] = cut(begin, end);
    value.end = end;
    segments.insert_or_assign(segments.erase(first, last), begin, std::move(value));
  }
  const std::map<uint64_t, Segment> &all() const { return segments; }

private:
  Iterator cutAt(uint64_t position) {
    Iterator next = segments.lower_bound(position);
    if (next == segments.begin() || (next != segments.end() && next->first == position))
      return next;
    Iterator before = std::prev(next);
    if (before->second.end <= position)
      return next;
    Segment tail = before->second;
    before->second.end = position;
    return segments.emplace_hint(next, position, std::move(tail));
  }

  std::map<uint64_t, Segment> segments;
};

} // namespace moe::validator

#endif // MOEC_RUNTIME_PLAN_VALIDATOR_SEGMENTS_H
