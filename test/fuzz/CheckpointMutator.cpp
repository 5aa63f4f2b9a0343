//===- CheckpointMutator.cpp - Other headers and data in whole safetensors files ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/Safetensors.h"
#include "test/fuzz/Mutators.h"

#include <cstring>

namespace moe::fuzz {
namespace {

constexpr size_t kPrefix = sizeof(uint64_t);

/// Replaces the first number in `text` from `at` on.
void replaceNumber(std::string &text, size_t at, Random &random) {
  const size_t begin = text.find_first_of("0123456789", at);
  if (begin == std::string::npos)
    return;
  const size_t end = std::min(text.find_first_not_of("0123456789", begin), text.size());
  text.replace(begin, end - begin, std::to_string(random.integer()));
}

/// Writes the digest of header and data to where the header has one.
void repairDigest(std::string &header, std::string_view data) {
  const std::string field = "\"" + std::string(kDigestKey) + "\":\"";
  const size_t at = header.find(field);
  if (at == std::string::npos || header.size() < at + field.size() + 16)
    return;
  header.replace(at + field.size(), 16, 16, '0');
  Digest digest;
  digest.add(header);
  digest.add(data);
  header.replace(at + field.size(), 16, hexText(digest.value()));
}

} // namespace

std::string mutateCheckpoint(std::string_view file, size_t limit, const ByteMutator &mutate, Random &random) {
  uint64_t length = 0;
  if (file.size() < kPrefix || limit < kPrefix || random.oneIn(16))
    return mutate(file, limit);
  std::memcpy(&length, file.data(), kPrefix);
  file.remove_prefix(kPrefix);
  length = std::min<uint64_t>(length, file.size());
  std::string header(file.substr(0, length)), data(file.substr(length));
  limit -= kPrefix;
  if (random.oneIn(8))
    data = mutate(data, limit - std::min(limit, header.size()));
  else if (random.oneIn(3))
    replaceNumber(header, random.below(header.size() + 1), random);
  else
    header = mutate(header, limit - std::min(limit, data.size()));
  if (!random.oneIn(8))
    repairDigest(header, data);
  length = header.size();
  std::string result(kPrefix, '\0');
  std::memcpy(result.data(), &length, kPrefix);
  return result + header + data;
}

} // namespace moe::fuzz
