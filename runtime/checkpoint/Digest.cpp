//===- Digest.cpp - XXH3-64 of a stream of bytes -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Digest.h"

#include <cstdio>
#include <new>
#include <xxhash.h>

namespace moe {

Digest::Digest() : state(XXH3_createState()) {
  if (!state)
    throw std::bad_alloc();
  XXH3_64bits_reset(state);
}

Digest::~Digest() {
  XXH3_freeState(state);
}

void Digest::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state, bytes.data(), bytes.size());
}

uint64_t Digest::value() const {
  return XXH3_64bits_digest(state);
}

std::string hexText(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

} // namespace moe
