//===- BackendTest.cpp - Backends that are there and that are not -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Backend.h"

#include <gtest/gtest.h>
#include <map>

using namespace moe;

namespace {

TEST(Backend, LoadsTheCpu) {
  auto device = createDevice("cpu", 1);
  ASSERT_TRUE(device) << device.error().str();
  EXPECT_NE(*device, nullptr);
}

// What `moerun doctor` tells of the CPU, without a plan.
TEST(Backend, TheCpuDescribesItself) {
  auto device = createDevice("cpu", 1);
  ASSERT_TRUE(device);
  std::map<std::string, std::string> facts;
  for (const DeviceFact &fact : (*device)->describe())
    facts[fact.name] = fact.value;
  EXPECT_TRUE(facts["matrix products"].starts_with("oneDNN "));
  EXPECT_EQ((" " + facts["features"] + " ").find(" avx2 ") != std::string::npos, __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ((" " + facts["features"] + " ").find(" avx512f ") != std::string::npos,
            __builtin_cpu_supports("avx512f") != 0);
}

TEST(Backend, ASimulatedOneLiesInAFolderOfItsOwn) {
  auto device = createDevice("cpu", 1, true);
  ASSERT_FALSE(device);
  EXPECT_NE(device.error().str().find("simulated/libmoerun-cpu.so"), std::string::npos);
}

TEST(Backend, AMissingOneIsNamed) {
  auto device = createDevice("abacus", 1);
  ASSERT_FALSE(device);
  EXPECT_NE(device.error().str().find("libmoerun-abacus.so"), std::string::npos);
}

// The backend of another build would be called with objects that it takes for something else.
TEST(Backend, OneOfAnotherBuildIsRefusedUncalled) {
  auto device = createDevice("stale", 1);
  ASSERT_FALSE(device);
  EXPECT_NE(device.error().str().find("belongs to another build"), std::string::npos) << device.error().str();
  EXPECT_NE(device.error().str().find("libmoerun-stale.so"), std::string::npos);
  EXPECT_NE(device.error().str().find("install program and backend together"), std::string::npos);
}

TEST(Backend, NamesAreNoPaths) {
  for (const char *name : {"", "../cpu", "cpu/../cpu", "c pu"}) {
    auto device = createDevice(name, 1);
    ASSERT_FALSE(device) << name;
    EXPECT_NE(device.error().str().find("unknown device"), std::string::npos);
  }
}

TEST(Diagnostic, HasALineForEachPart) {
  EXPECT_EQ((Diagnostic{"it failed", "here", "because", "do this"}).str(),
            "error: it failed\n  where: here\n  why:   because\n  try:   do this");
  EXPECT_EQ((Diagnostic{"it failed", "", "because", ""}).str(), "error: it failed\n  why:   because");
}

} // namespace
