//===- ElementsTest.cpp - Conversions between element types ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Elements.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <vector>

using namespace moe;

template <typename T> static std::span<std::byte> bytesOf(std::vector<T> &values) {
  return std::as_writable_bytes(std::span(values));
}

static float half(uint16_t bits) {
  std::vector<uint16_t> from = {bits};
  std::vector<float> to(1);
  EXPECT_TRUE(convertElements("F16", bytesOf(from), plan::F32, bytesOf(to), 1, "t"));
  return to[0];
}

// The compiler's own half type is the oracle: all 65536 values, and rounding at and beside every midpoint.
TEST(Elements, HalfAgreesWithTheCompiler) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    _Float16 expected = std::bit_cast<_Float16>(uint16_t(bits));
    float value = half(uint16_t(bits));
    if (std::isnan(float(expected))) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    ASSERT_EQ(value, float(expected)) << bits;
    double next = float(std::bit_cast<_Float16>(uint16_t(bits + 1)));
    double middle = (double(value) + next) / 2;
    if (!std::isfinite(middle) || (bits & 0x7fff) == 0x7fff)
      continue;
    for (double near : {double(value), middle, std::nextafter(middle, 1e9), std::nextafter(middle, -1e9)}) {
      std::vector<uint16_t> to(1);
      storeNumber(plan::F16, bytesOf(to), 0, near);
      ASSERT_EQ(to[0], std::bit_cast<uint16_t>(_Float16(near))) << near;
    }
  }
  std::vector<uint16_t> to(1);
  storeNumber(plan::F16, bytesOf(to), 0, 65519.99);
  EXPECT_EQ(to[0], 0x7BFF);
  storeNumber(plan::F16, bytesOf(to), 0, -65520);
  EXPECT_EQ(to[0], 0xFC00);
}

// Ties go to even, and a double just above a tie must not be rounded twice (to float first, then down).
TEST(Elements, BfloatRoundsOnce) {
  auto bfloat = [](double value) {
    std::vector<uint16_t> to(1);
    storeNumber(plan::BF16, bytesOf(to), 0, value);
    return to[0];
  };
  EXPECT_EQ(bfloat(1), 0x3F80);
  EXPECT_EQ(bfloat(-2), 0xC000);
  EXPECT_EQ(bfloat(1 + 0x1p-8), 0x3F80);           // tie, even below
  EXPECT_EQ(bfloat(1 + 3 * 0x1p-8), 0x3F82);       // tie, even above
  EXPECT_EQ(bfloat(1 + 0x1p-8 + 0x1p-40), 0x3F81); // float(...) would be the tie
  EXPECT_EQ(bfloat(1 + 3 * 0x1p-8 - 0x1p-40), 0x3F81);
  EXPECT_EQ(bfloat(INFINITY), 0x7F80);
  EXPECT_EQ(bfloat(1e300), 0x7F80);
  EXPECT_EQ(bfloat(NAN), 0x7FC0);
  EXPECT_EQ(bfloat(0), 0);
}

TEST(Elements, IntegersAreRangeChecked) {
  std::vector<int64_t> wide = {5, -7, int64_t(1) << 31};
  std::vector<int32_t> narrow(3);
  EXPECT_TRUE(convertElements("I64", bytesOf(wide), plan::I32, bytesOf(narrow), 2, "t"));
  EXPECT_EQ(narrow[1], -7);
  auto status = convertElements("I64", bytesOf(wide), plan::I32, bytesOf(narrow), 3, "input x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().where, "input x, element 2");
  EXPECT_NE(status.error().why.find("2147483648"), std::string::npos);

  std::vector<int32_t> back = {-1, 9};
  std::vector<int64_t> widened(2);
  EXPECT_TRUE(convertElements("I32", bytesOf(back), plan::I64, bytesOf(widened), 2, "t"));
  EXPECT_EQ(widened, (std::vector<int64_t>{-1, 9}));
  std::vector<uint64_t> huge = {uint64_t(1) << 63};
  EXPECT_FALSE(convertElements("U64", bytesOf(huge), plan::I64, bytesOf(widened), 1, "t"));
  std::vector<uint8_t> flags = {0, 1, 2}, out(3);
  EXPECT_TRUE(convertElements("BOOL", bytesOf(flags), plan::BOOL, bytesOf(out), 2, "t"));
  EXPECT_FALSE(convertElements("BOOL", bytesOf(flags), plan::BOOL, bytesOf(out), 3, "t"));
}

TEST(Elements, KindsDoNotMix) {
  std::vector<float> floats = {1};
  std::vector<int64_t> integers = {1};
  EXPECT_FALSE(convertElements("F32", bytesOf(floats), plan::I64, bytesOf(integers), 1, "t"));
  EXPECT_FALSE(convertElements("I64", bytesOf(integers), plan::F32, bytesOf(floats), 1, "t"));
  EXPECT_FALSE(convertElements("F8_E4M3", bytesOf(floats), plan::F32, bytesOf(floats), 1, "t"));
  std::vector<double> doubles = {0.1};
  EXPECT_TRUE(convertElements("F64", bytesOf(doubles), plan::F32, bytesOf(floats), 1, "t"));
  EXPECT_EQ(floats[0], 0.1f);
}

TEST(Elements, CountsOverflow) {
  auto count = [](std::vector<int64_t> shape) { return elementCount(shape); };
  EXPECT_EQ(count({}), 1);
  EXPECT_EQ(count({2, 3, 5}), 30);
  EXPECT_EQ(count({0, 3}), 0);
  EXPECT_EQ(count({int64_t(1) << 40, int64_t(1) << 40, 0}), 0);
  EXPECT_EQ(count({int64_t(1) << 40, int64_t(1) << 40}), -1);
  EXPECT_EQ(count({-1}), -1);
  EXPECT_EQ(count({0, -1}), -1);
}
