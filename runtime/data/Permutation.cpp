//===- Permutation.cpp - A shuffle that needs no memory ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Permutation.h"

namespace moe {

static uint64_t mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

Permutation::Permutation(uint64_t size, uint64_t seed, uint64_t epoch) : size(size) {
  while ((uint64_t(1) << (2 * halfBits)) < size)
    ++halfBits;
  for (int round = 0; round < rounds; ++round)
    keys[round] = mix(mix(seed) + mix(epoch * rounds + uint64_t(round) + 1));
}

uint64_t Permutation::operator()(uint64_t index) const {
  const uint64_t mask = (uint64_t(1) << halfBits) - 1;
  do {
    uint64_t left = index >> halfBits, right = index & mask;
    for (uint64_t key : keys) {
      uint64_t next = left ^ (mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    index = left << halfBits | right;
  } while (index >= size);
  return index;
}

} // namespace moe
