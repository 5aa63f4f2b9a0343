//===- Philox.cpp - Random numbers of the reference semantics ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Philox.h"

std::array<uint32_t, 4> moe::ir::philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t first = uint64_t(0xD2511F53) * counter[0];
    uint64_t second = uint64_t(0xCD9E8D57) * counter[2];
    counter = {static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(second),
               static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(first)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

uint64_t moe::ir::splitmix64Finalise(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

double moe::ir::uniformNumber(uint64_t seed, uint64_t site, int64_t numUpdates, int64_t microBatch, int64_t elements,
                              int64_t index) {
  uint64_t key = splitmix64Finalise(seed + 0x9E3779B97F4A7C15 * site);
  uint64_t global = static_cast<uint64_t>(microBatch) * elements + index;
  std::array<uint32_t, 4> words = philox4x32(
      {static_cast<uint32_t>(global), static_cast<uint32_t>(global >> 32), static_cast<uint32_t>(numUpdates), 0},
      {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  return (words[0] >> 8) * 0x1p-24;
}
