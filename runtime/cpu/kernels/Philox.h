//===- Philox.h - The random numbers of moec ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): a bijection
// of 128-bit counters under a 64-bit key. Every random decision of a training step is a pure function of
// (seed, site, update, global element index); generated kernels compute the same bits:
//
//   key     = mix(seed + 0x9E3779B97F4A7C15 * site), mix = the finaliser of SplitMix64; key word 0 is its low half
//   counter = (low half of index, high half of index, low half of update, 0)
//   uniform = (word 0 of the result >> 8) * 2^-24, in [0, 1); words 1 to 3 are not used
//   dropped iff uniform < p
//
// `site` is a 64-bit hash of the value that the numbers are for; `update` is num_updates. The index of an element is
// global: micro-batch * elements per micro-batch + row-major position in the tensor of one (global) micro-batch.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_PHILOX_H
#define MOEC_RUNTIME_CPU_KERNELS_PHILOX_H

#include <array>
#include <cstdint>

namespace moe::philox {

inline constexpr uint32_t multiplier0 = 0xD2511F53; ///< of counter word 0
inline constexpr uint32_t multiplier1 = 0xCD9E8D57; ///< of counter word 2
inline constexpr uint32_t weyl0 = 0x9E3779B9;       ///< added to key word 0 between rounds
inline constexpr uint32_t weyl1 = 0xBB67AE85;       ///< added to key word 1 between rounds
inline constexpr int rounds = 10;

/// The bijection itself.
constexpr std::array<uint32_t, 4> block(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < rounds; ++round) {
    uint64_t product0 = uint64_t{multiplier0} * counter[0];
    uint64_t product1 = uint64_t{multiplier1} * counter[2];
    counter = {uint32_t(product1 >> 32) ^ counter[1] ^ key[0], uint32_t(product1),
               uint32_t(product0 >> 32) ^ counter[3] ^ key[1], uint32_t(product0)};
    key = {key[0] + weyl0, key[1] + weyl1};
  }
  return counter;
}

/// Finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

/// The key of a site under a seed.
constexpr std::array<uint32_t, 2> siteKey(uint64_t seed, uint64_t site) {
  uint64_t mixed = mix(seed + 0x9E3779B97F4A7C15 * site);
  return {uint32_t(mixed), uint32_t(mixed >> 32)};
}

/// Word 0 for the element `index` in `update`.
constexpr uint32_t word(std::array<uint32_t, 2> key, uint64_t update, uint64_t index) {
  return block({uint32_t(index), uint32_t(index >> 32), uint32_t(update), 0}, key)[0];
}

/// A multiple of 2^-24 in [0, 1).
constexpr float uniform(std::array<uint32_t, 2> key, uint64_t update, uint64_t index) {
  return static_cast<float>(word(key, update, index) >> 8) * 0x1p-24f;
}

/// Whether dropout with probability `p` drops the element.
constexpr bool dropped(std::array<uint32_t, 2> key, uint64_t update, uint64_t index, float p) {
  return uniform(key, update, index) < p;
}

} // namespace moe::philox

#endif // MOEC_RUNTIME_CPU_KERNELS_PHILOX_H
