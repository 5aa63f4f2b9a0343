//===- TokenIndex.cpp - The .idx file beside a .bin file of tokens -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/TokenIndex.h"

#include <cstring>
#include <string>

namespace moe {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kMapped = "MMIDIDX\0\0"sv;
constexpr std::string_view kLegacy = "TNTIDX\0\0"sv;

bool startsWith(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

/// Numbers of an index, none of them aligned.
class Reader {
public:
  Reader(std::span<const std::byte> bytes, std::string_view where) : bytes(bytes), where(where) {}

  template <typename T> T at(uint64_t offset) const {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
  }

  tl::unexpected<Diagnostic> fail(std::string why) const {
    return error("the index of the tokens is damaged", std::string(where), std::move(why),
                 "write the .bin and .idx files again, or give the .idx file that belongs to the .bin file");
  }

  uint64_t size() const { return bytes.size(); }

private:
  std::span<const std::byte> bytes;
  std::string_view where;
};

/// Width and sign of a type code.
Status readType(const Reader &reader, uint64_t code, TokenIndex &index) {
  constexpr struct {
    uint64_t code;
    int width;
    bool isSigned;
  } types[] = {{1, 1, false}, {2, 1, true},  {3, 2, true},  {4, 4, true},
               {5, 8, true},  {8, 2, false}, {9, 4, false}, {10, 8, false}};
  for (const auto &type : types)
    if (type.code == code) {
      index.width = type.width;
      index.isSigned = type.isSigned;
      return {};
    }
  return reader.fail(code == 6 || code == 7 ? "its elements are floating-point numbers, not tokens"
                                            : "there is no element type " + std::to_string(code));
}

/// The tokens at which the sequences begin, and their end. `lengthOf` and `beginOf` (in tokens; -1: between two) tell
/// of a sequence.
template <typename Length, typename Begin>
Expected<std::vector<int64_t>> sequenceBegins(const Reader &reader, uint64_t sequences, int64_t tokens, Length lengthOf,
                                              Begin beginOf) {
  std::vector<int64_t> begins;
  begins.reserve(sequences + 1);
  int64_t next = 0;
  for (uint64_t i = 0; i < sequences; ++i) {
    const int64_t length = lengthOf(i), begin = beginOf(i);
    if (length < 0 || length > tokens - next)
      return reader.fail("sequence " + std::to_string(i) + " has " + std::to_string(length) + " tokens, after " +
                         std::to_string(next) + " of " + std::to_string(tokens) + " in the .bin file");
    if (begin != next)
      return reader.fail("sequence " + std::to_string(i) + " does not begin where the one before it ends, at token " +
                         std::to_string(next));
    begins.push_back(next);
    next += length;
  }
  if (next != tokens)
    return reader.fail("its sequences have " + std::to_string(next) + " tokens, the .bin file has " +
                       std::to_string(tokens));
  begins.push_back(next);
  return begins;
}

Expected<TokenIndex> parseMapped(const Reader &reader, uint64_t binBytes) {
  TokenIndex index;
  const uint64_t fixed = kMapped.size() + 8 + 1 + 8;
  if (reader.size() < fixed)
    return reader.fail("it ends within its header");
  if (uint64_t version = reader.at<uint64_t>(9); version != 1)
    return reader.fail("its version is " + std::to_string(version) + ", known is 1");
  if (Status status = readType(reader, reader.at<uint8_t>(17), index); !status)
    return tl::unexpected(status.error());
  const uint64_t sequences = reader.at<uint64_t>(18);
  if (sequences > reader.size() / 12)
    return reader.fail("it says that it has " + std::to_string(sequences) + " sequences, which do not fit into it");
  if (binBytes % uint64_t(index.width) != 0)
    return reader.fail("the .bin file has " + std::to_string(binBytes) + " bytes, no multiple of the " +
                       std::to_string(index.width) + " of a token");

  // Only the size tells whether there are documents: fairseq has none.
  uint64_t header = fixed, ends = 0;
  if (reader.size() != fixed + 12 * sequences) {
    header += 8;
    if (reader.size() < header)
      return reader.fail("it ends within its header");
    ends = reader.at<uint64_t>(26);
    const uint64_t rest = reader.size() - header;
    const bool fits = rest >= 12 * sequences && ends <= (rest - 12 * sequences) / 8;
    const uint64_t modes = fits ? rest - 12 * sequences - 8 * ends : 0;
    if (!fits || ends == 0 || (modes != 0 && modes != sequences))
      return reader.fail("its " + std::to_string(reader.size()) + " bytes are not those of " +
                         std::to_string(sequences) + " sequences and " + std::to_string(ends) + " ends of documents");
  }
  const uint64_t offsets = header + 4 * sequences, documents = offsets + 8 * sequences;
  auto lengthOf = [&](uint64_t i) { return int64_t(reader.at<int32_t>(header + 4 * i)); };
  auto beginOf = [&](uint64_t i) {
    const int64_t offset = reader.at<int64_t>(offsets + 8 * i);
    return offset % index.width == 0 ? offset / index.width : -1;
  };
  auto begins = sequenceBegins(reader, sequences, int64_t(binBytes) / index.width, lengthOf, beginOf);
  if (!begins)
    return tl::unexpected(begins.error());
  if (ends == 0) {
    index.begins = std::move(*begins);
    return index;
  }
  uint64_t last = 0;
  for (uint64_t d = 0; d < ends; ++d) {
    const uint64_t sequence = reader.at<uint64_t>(documents + 8 * d);
    if (sequence > sequences || sequence < last || (d == 0 && sequence != 0))
      return reader.fail("document " + std::to_string(d) + " begins with sequence " + std::to_string(sequence) +
                         ", after " + std::to_string(last) + " of " + std::to_string(sequences));
    last = sequence;
    index.begins.push_back((*begins)[sequence]);
  }
  if (last != sequences)
    return reader.fail("its documents end with sequence " + std::to_string(last) + " of " + std::to_string(sequences));
  return index;
}

Expected<TokenIndex> parseLegacy(const Reader &reader, uint64_t binBytes) {
  TokenIndex index;
  const uint64_t header = kLegacy.size() + 5 * 8;
  if (reader.size() < header)
    return reader.fail("it ends within its header");
  if (uint64_t version = reader.at<uint64_t>(8); version != 1)
    return reader.fail("its version is " + std::to_string(version) + ", known is 1");
  if (Status status = readType(reader, reader.at<uint64_t>(16), index); !status)
    return tl::unexpected(status.error());
  const uint64_t width = reader.at<uint64_t>(24), sequences = reader.at<uint64_t>(32), sizes = reader.at<uint64_t>(40);
  if (width != uint64_t(index.width))
    return reader.fail("its elements have " + std::to_string(width) + " bytes, those of its type have " +
                       std::to_string(index.width));
  const uint64_t words = (reader.size() - header) / 8;
  if ((reader.size() - header) % 8 != 0 || sequences >= words / 2 || sizes != words - 2 * (sequences + 1))
    return reader.fail("its " + std::to_string(reader.size()) + " bytes are not those of " + std::to_string(sequences) +
                       " sequences and " + std::to_string(sizes) + " sizes");
  if (binBytes % width != 0)
    return reader.fail("the .bin file has " + std::to_string(binBytes) + " bytes, no multiple of the " +
                       std::to_string(width) + " of a token");
  const uint64_t firsts = header + 8 * (sequences + 1);
  auto beginOf = [&](uint64_t i) { return reader.at<int64_t>(firsts + 8 * i); };
  // The difference of hostile numbers may overflow; of a number in [0, tokens] and another one it does not.
  const int64_t tokens = int64_t(binBytes / width);
  auto lengthOf = [&](uint64_t i) {
    const int64_t begin = beginOf(i), end = beginOf(i + 1);
    return begin < 0 || begin > tokens || end < 0 ? -1 : end - begin;
  };
  auto begins = sequenceBegins(reader, sequences, tokens, lengthOf, beginOf);
  if (!begins)
    return tl::unexpected(begins.error());
  index.begins = std::move(*begins);
  return index;
}

} // namespace

bool isTokenIndex(std::span<const std::byte> index) {
  return startsWith(index, kMapped) || startsWith(index, kLegacy);
}

Expected<TokenIndex> parseTokenIndex(std::span<const std::byte> index, uint64_t binBytes, std::string_view where) {
  Reader reader(index, where);
  if (startsWith(index, kMapped))
    return parseMapped(reader, binBytes);
  if (startsWith(index, kLegacy))
    return parseLegacy(reader, binBytes);
  return reader.fail("it begins like none of the formats of Megatron-LM and fairseq");
}

} // namespace moe
