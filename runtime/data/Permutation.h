//===- Permutation.h - A shuffle that needs no memory ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_PERMUTATION_H
#define MOEC_RUNTIME_DATA_PERMUTATION_H

#include <cstdint>

namespace moe {

/// A bijection of [0, size) keyed by (seed, epoch), evaluated one element at a time without any table, so that the
/// whole state of a shuffled pass over the data is one position.
///
/// A balanced Feistel network of eight rounds over 2h bits, the least with 4^h >= size; values outside [0, size) walk
/// the cycle until they fall inside (fewer than four evaluations on average). Round r maps (L, R) to
/// (R, L ^ (mix(R ^ key[r]) mod 2^h)) with key[r] = mix(mix(seed) + mix(epoch * 8 + r + 1)) and mix the finaliser of
/// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class Permutation {
public:
  /// `size` in [1, 2^62].
  Permutation(uint64_t size, uint64_t seed, uint64_t epoch);

  /// The element at place `index`, which must be below the size.
  uint64_t operator()(uint64_t index) const;

private:
  static constexpr int rounds = 8;

  uint64_t size;
  unsigned halfBits = 1;
  uint64_t keys[rounds];
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_PERMUTATION_H
