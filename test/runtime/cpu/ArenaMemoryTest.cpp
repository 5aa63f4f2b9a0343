//===- ArenaMemoryTest.cpp - Arenas: aligned, zeroed, guarded -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/ArenaMemory.h"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace moe::cpu;

namespace {

TEST(ArenaMemory, IsAlignedZeroedAndWritableToItsEnds) {
  for (bool guard : {false, true})
    for (uint64_t alignment : {1, 64, 4096, 1 << 21})
      for (uint64_t bytes : {0, 1, 63, 64, 4095, 4096, 4097, (2 << 20) + 1, 5 << 20}) {
        auto arena = ArenaMemory::create(bytes, alignment, guard);
        ASSERT_TRUE(arena);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(arena->data()) % alignment, 0u);
        EXPECT_EQ(arena->size(), bytes);
        EXPECT_TRUE(std::all_of(arena->data(), arena->data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
        std::memset(arena->data(), 0xff, bytes);
      }
}

/// Whether a byte can be read, without risking a fault: the kernel copies it into a pipe for us.
bool readable(const std::byte *address) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  bool ok = ::write(ends[1], address, 1) == 1;
  ::close(ends[0]);
  ::close(ends[1]);
  return ok;
}

TEST(ArenaMemory, GuardsLieRightBehindAndBefore) {
  for (uint64_t alignment : {1, 4, 64})
    for (uint64_t bytes : {64, 100 * 64, 4096, (2 << 20) + 64}) {
      auto arena = ArenaMemory::create(bytes, alignment, true);
      ASSERT_TRUE(arena);
      EXPECT_TRUE(readable(arena->data()));
      EXPECT_TRUE(readable(arena->data() + bytes - 1));
      EXPECT_FALSE(readable(arena->data() + bytes)); // sizes are multiples of the alignment: no slack
      EXPECT_FALSE(readable(arena->data() - ::sysconf(_SC_PAGESIZE)));
    }
}

TEST(ArenaMemory, ImpossibleSizesAreErrors) {
  EXPECT_FALSE(ArenaMemory::create(UINT64_MAX - 4096, 64, false));
  EXPECT_FALSE(ArenaMemory::create(uint64_t{1} << 60, 64, true));
}

TEST(ArenaMemory, MovesWithItsMapping) {
  auto a = ArenaMemory::create(4096, 64, false);
  ASSERT_TRUE(a);
  a->data()[5] = std::byte{7};
  ArenaMemory b = std::move(*a);
  EXPECT_EQ(b.data()[5], std::byte{7});
  ArenaMemory c = std::move(b);
  EXPECT_EQ(c.data()[5], std::byte{7});
}

} // namespace
