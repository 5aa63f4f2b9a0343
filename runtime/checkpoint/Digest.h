//===- Digest.h - XXH3-64 of a stream of bytes -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_DIGEST_H
#define MOEC_RUNTIME_CHECKPOINT_DIGEST_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace moe {

/// XXH3-64 (seed 0) of bytes that arrive in pieces.
class Digest {
public:
  Digest();
  Digest(const Digest &) = delete;
  Digest &operator=(const Digest &) = delete;
  ~Digest();

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  uint64_t value() const;

private:
  XXH3_state_s *state;
};

/// Sixteen lower-case hexadecimal digits.
std::string hexText(uint64_t value);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_DIGEST_H
