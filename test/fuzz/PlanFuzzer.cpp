//===- PlanFuzzer.cpp - The mutator of plans for libFuzzer --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/Fuzzer.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t limit, unsigned seed) {
  moe::fuzz::Random random(seed);
  // Now and then the reader in front of the digests gets its share.
  std::optional<std::string> changed;
  if (!random.oneIn(16))
    changed = moe::fuzz::mutatePlan(moe::fuzz::textOf(data, size), random);
  return changed ? moe::fuzz::give(*changed, data, size, limit) : LLVMFuzzerMutate(data, size, limit);
}
