//===- PhiloxTest.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/Philox.h"

#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <gtest/gtest.h>

#include <random>

using namespace moe;

namespace {

using Block = std::array<uint32_t, 4>;

// The known answers of the Random123 distribution (philox4x32, 10 rounds).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox::block({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox::block({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox::block({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The first outputs of SplitMix64 with seed 0 are mix(1 * gamma), mix(2 * gamma), ...
TEST(Philox, SiteKey) {
  EXPECT_EQ(philox::mix(0x9E3779B97F4A7C15), 0xE220A8397B1DCDAF);
  EXPECT_EQ(philox::siteKey(0, 1), (std::array<uint32_t, 2>{0x7B1DCDAF, 0xE220A839}));
  EXPECT_EQ(philox::siteKey(0, 2), (std::array<uint32_t, 2>{0xA1B965F4, 0x6E789E6A}));
  EXPECT_EQ(philox::siteKey(0x9E3779B97F4A7C15, 1), philox::siteKey(0, 2));
}

// Halves of the index or of the key exchanged, update ignored, a shift of the uniform.
TEST(Philox, UniformEqualsIndependentImplementation) {
  std::mt19937_64 generator(1);
  double sum = 0;
  for (int i = 0; i < 4096; ++i) {
    const uint64_t seed = generator(), site = generator(), update = generator() % 100000,
                   index = generator() >> (i % 40);
    const float uniform = philox::uniform(philox::siteKey(seed, site), update, index);
    ASSERT_EQ(double(uniform), test::referenceUniform(seed, site, update, index));
    ASSERT_TRUE(uniform >= 0.0f && uniform < 1.0f);
    sum += double(uniform) / 4096;
  }
  EXPECT_NEAR(sum, 0.5, 4 * 0.2887 / 64);
}

TEST(Philox, DroppedBelowProbability) {
  const auto key = philox::siteKey(1, 2);
  const float uniform = philox::uniform(key, 3, 4);
  EXPECT_FALSE(philox::dropped(key, 3, 4, uniform));
  EXPECT_TRUE(philox::dropped(key, 3, 4, uniform + 0x1p-24f));
}

} // namespace
