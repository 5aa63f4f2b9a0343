//===- UndefinedTest.cpp - Sets of undefined bytes ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Undefined.h"

#include <array>
#include <gtest/gtest.h>
#include <random>

using namespace moe::sim;

namespace {

// Against one flag per byte: all ways in which ranges can meet, of which there are few in 24 bytes.
TEST(Undefined, IsASetOfBytes) {
  std::array<std::byte, 24> memory{};
  std::array<bool, memory.size()> expected{};
  Undefined set;
  std::mt19937 random(1);
  for (int i = 0; i < 4000; ++i) {
    size_t begin = random() % (memory.size() + 1), end = random() % (memory.size() + 1);
    bool adds = random() % 2 == 0;
    Undefined::Bytes bytes = {memory.data() + begin, memory.data() + end};
    adds ? set.add(bytes) : set.remove(bytes);
    for (size_t at = begin; at < end; ++at)
      expected[at] = adds;

    size_t low = random() % memory.size(), high = low + random() % (memory.size() - low);
    std::array<bool, memory.size()> found{};
    const std::byte *last = nullptr;
    for (const Undefined::Bytes &part : set.within({memory.data() + low, memory.data() + high})) {
      ASSERT_LT(part.begin, part.end);
      ASSERT_GT(part.begin, last) << "neither joined nor in order";
      last = part.end;
      for (const std::byte *at = part.begin; at < part.end; ++at)
        found[static_cast<size_t>(at - memory.data())] = true;
    }
    for (size_t at = 0; at < memory.size(); ++at)
      ASSERT_EQ(found[at], expected[at] && at >= low && at < high) << at;
  }
}

} // namespace
