//===- Elements.cpp - Element types and conversions between them -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Elements.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace moe {

namespace {
struct TypeName {
  std::string_view name;
  size_t size;
};
} // namespace

static constexpr TypeName typeNames[] = {{"F64", 8}, {"F32", 4}, {"F16", 2},  {"BF16", 2},    {"I64", 8},
                                         {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
                                         {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

size_t elementSize(std::string_view safetensorsType) {
  for (const TypeName &type : typeNames)
    if (type.name == safetensorsType)
      return type.size;
  return 0;
}

std::string_view elementName(plan::DType type) {
  switch (type) {
  case plan::F32:
    return "F32";
  case plan::BF16:
    return "BF16";
  case plan::F16:
    return "F16";
  case plan::I32:
    return "I32";
  case plan::I64:
    return "I64";
  case plan::BOOL:
    return "BOOL";
  default:
    return {};
  }
}

size_t elementSize(plan::DType type) {
  return elementSize(elementName(type));
}

int64_t elementCount(std::span<const int64_t> shape) {
  int64_t count = 1;
  bool overflow = false, zero = false;
  for (int64_t length : shape) {
    if (length < 0)
      return -1;
    zero |= length == 0;
    overflow |= __builtin_mul_overflow(count, length, &count);
  }
  if (overflow && !zero)
    return -1;
  return zero ? 0 : count;
}

std::string shapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

template <typename T> static T load(const std::byte *data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * int64_t(sizeof(T)), sizeof(T));
  return value;
}

template <typename T> static void store(std::byte *data, int64_t index, T value) {
  std::memcpy(data + index * int64_t(sizeof(T)), &value, sizeof(T));
}

static double fromHalf(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double magnitude = exponent == 31  ? (fraction ? std::nan("") : std::numeric_limits<double>::infinity())
                     : exponent == 0 ? std::ldexp(fraction, -24)
                                     : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

/// Nearest half, ties to even; overflow to infinity.
static uint16_t toHalf(double value) {
  uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  double magnitude = std::fabs(value);
  if (std::isnan(value))
    return sign | 0x7E00;
  if (magnitude >= 65520.0)
    return sign | 0x7C00;
  int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  // In units of the last place; a carry into the next binade is right by construction of the format.
  auto units = uint32_t(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  return uint16_t(sign | ((uint32_t(exponent + 14) << 10) + units));
}

/// Nearest bfloat16 of a double, ties to even, without rounding twice.
static uint16_t toBfloat(double value) {
  if (std::isnan(value))
    return 0x7FC0;
  float nearest = float(value);
  auto bits = std::bit_cast<uint32_t>(nearest);
  // Round to odd first: if the float is inexact, its last bit set says that the tail is not zero.
  if (!std::isinf(nearest) && double(nearest) != value) {
    if (std::fabs(double(nearest)) > std::fabs(value))
      --bits;
    bits |= 1;
  }
  return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void storeNumber(plan::DType type, std::span<std::byte> target, int64_t index, double value) {
  switch (type) {
  case plan::F32:
    return store<float>(target.data(), index, float(value));
  case plan::F16:
    return store<uint16_t>(target.data(), index, toHalf(value));
  case plan::BF16:
    return store<uint16_t>(target.data(), index, toBfloat(value));
  case plan::I32:
    return store<int32_t>(target.data(), index, int32_t(value));
  case plan::I64:
    return store<int64_t>(target.data(), index, int64_t(value));
  case plan::BOOL:
    return store<uint8_t>(target.data(), index, value != 0);
  default:
    return;
  }
}

static double loadFloat(std::string_view from, const std::byte *source, int64_t index) {
  if (from == "F32")
    return double(load<float>(source, index));
  if (from == "F64")
    return load<double>(source, index);
  if (from == "F16")
    return fromHalf(load<uint16_t>(source, index));
  return double(std::bit_cast<float>(uint32_t(load<uint16_t>(source, index)) << 16));
}

/// False if the value exceeds int64.
static bool loadInteger(std::string_view from, const std::byte *source, int64_t index, int64_t &value) {
  bool isSigned = from.front() == 'I';
  switch (elementSize(from)) {
  case 1:
    value = isSigned ? int64_t(load<int8_t>(source, index)) : int64_t(load<uint8_t>(source, index));
    return true;
  case 2:
    value = isSigned ? int64_t(load<int16_t>(source, index)) : int64_t(load<uint16_t>(source, index));
    return true;
  case 4:
    value = isSigned ? int64_t(load<int32_t>(source, index)) : int64_t(load<uint32_t>(source, index));
    return true;
  default:
    value = load<int64_t>(source, index);
    return isSigned || value >= 0;
  }
}

static bool fits(plan::DType to, int64_t value) {
  if (to == plan::I32)
    return value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
  return to == plan::I64 || value == 0 || value == 1;
}

Status convertElements(std::string_view from, std::span<const std::byte> source, plan::DType to,
                       std::span<std::byte> target, int64_t count, std::string_view where) {
  if (from == elementName(to) && to != plan::BOOL) {
    std::memcpy(target.data(), source.data(), size_t(count) * elementSize(to));
    return {};
  }
  const bool toFloat = to == plan::F32 || to == plan::F16 || to == plan::BF16;
  const bool fromFloat = from == "F32" || from == "F64" || from == "F16" || from == "BF16";
  const bool fromInteger = from.starts_with('I') || from.starts_with('U') || from == "BOOL";
  if (elementSize(from) == 0 || elementSize(to) == 0 || (toFloat ? !fromFloat : !fromInteger))
    return error("a tensor has the wrong element type", std::string(where),
                 "it holds " + std::string(from) + ", the plan needs " + std::string(elementName(to)));
  for (int64_t i = 0; i < count; ++i) {
    if (toFloat) {
      storeNumber(to, target, i, loadFloat(from, source.data(), i));
      continue;
    }
    int64_t value = 0;
    if (!loadInteger(from, source.data(), i, value) || !fits(to, value))
      return error("a value does not fit its type", std::string(where) + ", element " + std::to_string(i),
                   std::to_string(value) + " is not a value of " + std::string(elementName(to)));
    if (to == plan::I32)
      store<int32_t>(target.data(), i, int32_t(value));
    else if (to == plan::I64)
      store<int64_t>(target.data(), i, value);
    else
      store<uint8_t>(target.data(), i, uint8_t(value));
  }
  return {};
}

} // namespace moe
