//===- MemoryTest.cpp - Memory that there is and that a plan needs ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Memory.h"

#include <gtest/gtest.h>

using namespace moe;

namespace {

TEST(Memory, ReadsMeminfo) {
  const char *text = "MemTotal:       1000 kB\nNotMemAvailable:  1 kB\nMemAvailable:    24 kB\n";
  EXPECT_EQ(meminfoBytes(text, "MemAvailable"), 24u * 1024);
  EXPECT_EQ(meminfoBytes(text, "MemTotal"), 1000u * 1024);
  EXPECT_EQ(meminfoBytes(text, "MemFree"), std::nullopt);
  EXPECT_EQ(meminfoBytes("MemAvailable: many", "MemAvailable"), std::nullopt);
}

TEST(Memory, ThisMachineHasSome) {
  ASSERT_TRUE(availableMemory());
  EXPECT_GT(*availableMemory(), 1u << 20);
}

TEST(Memory, RequirementIsTheLargerOfCertificateAndArenas) {
  plan::Plan plan;
  plan.add_arenas()->set_bytes(100);
  plan.add_arenas()->set_bytes(20);
  EXPECT_EQ(requiredMemory(plan), 120u);
  plan.mutable_certificate()->set_total(150);
  plan.mutable_certificate()->set_library_overhead(7);
  EXPECT_EQ(requiredMemory(plan), 157u);
  plan.mutable_certificate()->set_total(UINT64_MAX);
  EXPECT_EQ(requiredMemory(plan), UINT64_MAX);
}

TEST(Memory, FormatsBytes) {
  EXPECT_EQ(formatBytes(0), "0 B");
  EXPECT_EQ(formatBytes(1023), "1023 B");
  EXPECT_EQ(formatBytes(1536), "1.50 KiB");
  EXPECT_EQ(formatBytes(UINT64_MAX), "16.00 EiB");
}

} // namespace
