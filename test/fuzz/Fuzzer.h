//===- Fuzzer.h - Between our mutators and libFuzzer --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_FUZZER_H
#define MOEC_TEST_FUZZ_FUZZER_H

#include "test/fuzz/Mutators.h"
#include "test/fuzz/Target.h"

#include <cstring>

/// libFuzzer's own mutator, which works in place.
extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t limit);

namespace moe::fuzz {

/// LLVMFuzzerMutate for a text.
inline std::string mutateBytes(std::string_view bytes, size_t limit) {
  std::string buffer(std::max(bytes.size(), limit), '\0');
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  const size_t size = std::min(bytes.size(), limit);
  if (limit > 0)
    buffer.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t *>(buffer.data()), size, limit));
  return buffer;
}

/// Puts a changed input where libFuzzer wants it; one that is too large is dropped, and the old one stays.
inline size_t give(const std::string &changed, uint8_t *data, size_t size, size_t limit) {
  if (changed.empty() || changed.size() > limit)
    return size;
  std::memcpy(data, changed.data(), changed.size());
  return changed.size();
}

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_FUZZER_H
