//===- CheckpointFuzzer.cpp - The mutator of safetensors files for libFuzzer --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/Fuzzer.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t limit, unsigned seed) {
  moe::fuzz::Random random(seed);
  return moe::fuzz::give(
      moe::fuzz::mutateCheckpoint(moe::fuzz::textOf(data, size), limit, moe::fuzz::mutateBytes, random), data, size,
      limit);
}
