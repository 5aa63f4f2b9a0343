//===- Safetensors.cpp - Named tensors in a file -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Safetensors.h"

#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/Elements.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

namespace moe {

namespace {

/// Reads `{"__metadata__": {string: string}, NAME: {"dtype", "shape", "data_offsets"}}` as a stream of events, so that
/// neither depth nor size of a hostile header costs more than its text, and duplicate keys are seen.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
public:
  std::vector<TensorEntry> entries;
  std::map<std::string, std::string> strings;
  std::string problem;

  bool null() override { return fail("null"); }
  bool boolean(bool) override { return fail("a boolean"); }
  bool number_integer(number_integer_t) override { return fail("a negative number"); }
  bool number_float(number_float_t, const string_t &) override { return fail("a fraction"); }
  bool binary(binary_t &) override { return fail("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place != Place::Array)
      return fail("a number");
    if (value > uint64_t(INT64_MAX))
      return fail("a number beyond 2^63");
    if (field == "shape")
      entries.back().shape.push_back(int64_t(value));
    else
      offsets.push_back(value);
    return entries.back().shape.size() <= 64 && offsets.size() <= 2 ? true : fail("too long an array");
  }

  bool string(string_t &value) override {
    if (place == Place::Metadata)
      return strings.emplace(current, value).second ? true : fail("a duplicate metadata key");
    if (place != Place::Tensor || field != "dtype")
      return fail("a string");
    entries.back().type = value;
    return true;
  }

  bool start_object(std::size_t) override {
    if (place == Place::Start)
      place = Place::Top;
    else if (place == Place::Top && current == "__metadata__")
      place = Place::Metadata;
    else if (place == Place::Top) {
      place = Place::Tensor;
      entries.emplace_back().name = current;
      fields.clear();
      offsets.clear();
    } else
      return fail("an object");
    return true;
  }

  bool key(string_t &value) override {
    if (place == Place::Tensor) {
      if (value != "dtype" && value != "shape" && value != "data_offsets")
        return fail("the key '" + value + "'");
      if (!fields.insert(value).second)
        return fail("a duplicate key");
      field = value;
      return true;
    }
    current = value;
    if (place == Place::Top && !names.insert(value).second)
      return fail("a duplicate name");
    return true;
  }

  bool end_object() override {
    if (place == Place::Tensor) {
      if (fields.size() != 3 || offsets.size() != 2 || entries.back().type.empty())
        return fail("an incomplete entry");
      entries.back().begin = offsets[0];
      entries.back().end = offsets[1];
    }
    place = place == Place::Top ? Place::End : Place::Top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place != Place::Tensor || field == "dtype")
      return fail("an array");
    place = Place::Array;
    return true;
  }

  bool end_array() override {
    place = Place::Tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string &, const nlohmann::detail::exception &) override {
    problem = "its header is not valid JSON at byte " + std::to_string(position);
    return false;
  }

private:
  bool fail(const std::string &what) {
    problem = "its header has " + what + " at '" + current.substr(0, 100) + "', where the format has none";
    return false;
  }

  enum class Place { Start, Top, Metadata, Tensor, Array, End };
  Place place = Place::Start;
  std::string current, field;
  std::set<std::string> names, fields;
  std::vector<uint64_t> offsets;
};

} // namespace

static Diagnostic damaged(const std::filesystem::path &path, std::string why) {
  return {"not a complete safetensors file", path.string(), std::move(why), {}};
}

Expected<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path &path) {
  auto mapped = MappedFile::open(path);
  if (!mapped)
    return tl::unexpected(mapped.error());
  SafetensorsFile result(std::move(*mapped));
  if (Status status = result.parse(); !status)
    return tl::unexpected(status.error());
  return result;
}

/// Checks that an entry's type, shape and extent agree; returns what is wrong, or nothing.
static std::string checkEntry(const TensorEntry &entry, uint64_t dataSize) {
  size_t size = elementSize(entry.type);
  if (size == 0)
    return "tensor '" + entry.name + "' has the unknown type '" + entry.type.substr(0, 20) + "'";
  int64_t count = elementCount(entry.shape);
  uint64_t bytes = 0;
  if (count < 0 || __builtin_mul_overflow(uint64_t(count), size, &bytes))
    return "tensor '" + entry.name + "' has a shape that overflows";
  if (entry.begin > entry.end || entry.end > dataSize)
    return "tensor '" + entry.name + "' lies beyond the end of the file (the file may be truncated)";
  if (entry.end - entry.begin != bytes)
    return "tensor '" + entry.name + "' has " + std::to_string(entry.end - entry.begin) + " bytes, its shape " +
           shapeText(entry.shape) + " needs " + std::to_string(bytes);
  return {};
}

Status SafetensorsFile::parse() {
  constexpr uint64_t largestHeader = 100'000'000; // the limit of the reference implementation
  std::span<const std::byte> bytes = file.bytes();
  uint64_t length = 0;
  if (bytes.size() < sizeof(length))
    return tl::unexpected(damaged(path(), "it has " + std::to_string(bytes.size()) + " bytes, less than a header"));
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > largestHeader || length > bytes.size() - sizeof(length))
    return tl::unexpected(damaged(path(), "its header is longer than the file (it may be truncated)"));
  header = {reinterpret_cast<const char *>(bytes.data()) + sizeof(length), length};
  data = bytes.subspan(sizeof(length) + length);

  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header.begin(), header.end(), &reader))
    return tl::unexpected(damaged(path(), reader.problem));
  entries = std::move(reader.entries);
  strings = std::move(reader.strings);

  for (const TensorEntry &entry : entries)
    if (std::string problem = checkEntry(entry, data.size()); !problem.empty())
      return tl::unexpected(damaged(path(), problem));
  std::ranges::sort(entries, [](const TensorEntry &a, const TensorEntry &b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = 0;
  for (const TensorEntry &entry : entries) {
    if (entry.begin != expected)
      return tl::unexpected(damaged(path(), "tensor '" + entry.name + "' overlaps another or leaves a gap before it"));
    expected = entry.end;
  }
  if (expected != data.size())
    return tl::unexpected(damaged(path(), "its tensors end at byte " + std::to_string(expected) + " of " +
                                              std::to_string(data.size()) + " data bytes"));
  std::ranges::sort(entries, {}, &TensorEntry::name);
  return {};
}

const TensorEntry *SafetensorsFile::find(std::string_view name) const {
  auto place =
      std::ranges::lower_bound(entries, name, {}, [](const TensorEntry &e) -> std::string_view { return e.name; });
  return place != entries.end() && place->name == name ? &*place : nullptr;
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorEntry &entry) const {
  return data.subspan(entry.begin, entry.end - entry.begin);
}

bool SafetensorsFile::hasDigest() const {
  return strings.contains(std::string(kDigestKey));
}

bool SafetensorsFile::digestMatches() const {
  auto stored = strings.find(std::string(kDigestKey));
  if (stored == strings.end())
    return false;
  std::string field = "\"" + std::string(kDigestKey) + "\":\"";
  size_t at = header.find(field);
  if (at == std::string_view::npos || stored->second.size() != 16)
    return false;
  at += field.size();
  if (header.substr(at, 16) != stored->second)
    return false;
  Digest digest;
  digest.add(header.substr(0, at));
  digest.add("0000000000000000");
  digest.add(header.substr(at + 16));
  digest.add(data);
  return stored->second == hexText(digest.value());
}

} // namespace moe
