//===- NpyHeader.cpp - What a .npy file holds --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/NpyHeader.h"

#include <charconv>
#include <cstring>

namespace moe {

static constexpr std::string_view magic = "\x93NUMPY";

bool isNpy(std::span<const std::byte> file) {
  return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

/// The text after `'key':`, without leading spaces; empty if the key is missing.
static std::string_view valueOf(std::string_view dictionary, std::string_view key) {
  std::string quoted = "'" + std::string(key) + "'";
  size_t at = dictionary.find(quoted);
  if (at == std::string_view::npos)
    return {};
  dictionary.remove_prefix(at + quoted.size());
  size_t start = dictionary.find_first_not_of(": ");
  return start == std::string_view::npos ? std::string_view() : dictionary.substr(start);
}

/// Product of `(a, b)`; -1 if the text is not a tuple of one or two lengths or the product overflows.
static int64_t parseShape(std::string_view text) {
  if (text.empty() || text.front() != '(')
    return -1;
  size_t end = text.find(')');
  if (end == std::string_view::npos)
    return -1;
  const char *at = text.data() + 1, *last = text.data() + end;
  int64_t product = 1;
  int rank = 0;
  while (at < last) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    int64_t length = 0;
    auto [next, failure] = std::from_chars(at, last, length);
    if (failure != std::errc() || length < 0 || __builtin_mul_overflow(product, length, &product))
      return -1;
    at = next;
    ++rank;
  }
  return rank == 1 || rank == 2 ? product : -1;
}

Expected<NpyHeader> parseNpyHeader(std::span<const std::byte> file, std::string_view where) {
  auto fail = [&](std::string why) {
    return error("not a usable .npy token file", std::string(where), std::move(why),
                 "save the tokens with numpy as a one- or two-dimensional little-endian integer array");
  };
  if (!isNpy(file) || file.size() < 12)
    return fail("the file does not start with a complete .npy header");
  auto byteAt = [&](size_t i) { return std::to_integer<uint32_t>(file[i]); };
  size_t start = byteAt(6) == 1 ? 10 : 12;
  size_t length = byteAt(8) | byteAt(9) << 8;
  if (start == 12)
    length |= size_t(byteAt(10)) << 16 | size_t(byteAt(11)) << 24;
  if (length > file.size() - start)
    return fail("the header is longer than the file");
  std::string_view dictionary(reinterpret_cast<const char *>(file.data()) + start, length);

  NpyHeader header;
  header.dataOffset = start + length;
  std::string_view type = valueOf(dictionary, "descr");
  if (type.size() < 5 || type[0] != '\'' || type[4] != '\'' || !std::strchr("<|=>", type[1]))
    return fail("its element type is not a plain integer");
  if ((type[2] != 'i' && type[2] != 'u') || !std::strchr("1248", type[3]))
    return fail("its element type " + std::string(type.substr(0, 5)) + " is not an integer");
  header.width = type[3] - '0';
  header.isSigned = type[2] == 'i';
  if (type[1] == '>' && header.width > 1)
    return fail("its integers are big endian");
  header.elements = parseShape(valueOf(dictionary, "shape"));
  if (header.elements < 0)
    return fail("its shape is not (n,) or (m, n)");
  std::string_view order = valueOf(dictionary, "fortran_order");
  if (!order.starts_with("False") && !order.starts_with("True"))
    return fail("the header does not say the order of its elements");
  if (order.starts_with("True"))
    return fail("it is stored in column-major (Fortran) order");
  if (uint64_t(header.elements) > (file.size() - header.dataOffset) / uint64_t(header.width))
    return fail("it is truncated: the header announces " + std::to_string(header.elements) + " elements of " +
                std::to_string(header.width) + " bytes, the file holds " +
                std::to_string(file.size() - header.dataOffset) + " bytes of data");
  return header;
}

} // namespace moe
