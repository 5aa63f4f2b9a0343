//===- DataFuzzer.cpp - The mutator of training data for libFuzzer ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/DataInput.h"
#include "test/fuzz/Fuzzer.h"

using namespace moe::fuzz;

/// Safetensors keep a header whose length is right; the other formats are as good as bytes.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t limit, unsigned seed) {
  Random random(seed);
  if (size == 0 || data[0] % 16 != uint8_t(DataFormat::Batches) || random.oneIn(16))
    return LLVMFuzzerMutate(data, size, limit);
  const std::string changed = mutateCheckpoint(textOf(data + 1, size - 1), limit - 1, mutateBytes, random);
  return 1 + give(changed, data + 1, size - 1, limit - 1);
}
