//===- CpuFeaturesTest.cpp - CPUID by LLVM's names, against the kernel's list -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/CpuFeatures.h"

#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <sstream>
#include <string>

using namespace moe::cpu;

namespace {

// The kernel asks CPUID too, by its own table.
TEST(CpuFeatures, AgreeWithTheKernel) {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::set<std::string> flags;
  for (std::string line; flags.empty() && std::getline(cpuinfo, line);)
    if (line.starts_with("flags")) {
      std::istringstream words(line.substr(line.find(':') + 1));
      for (std::string word; words >> word;)
        flags.insert(word);
    }
  if (flags.empty())
    GTEST_SKIP() << "no x86 flags in /proc/cpuinfo";
  // LLVM's name and Linux's name. RDSEED is missing: Linux hides it on processors whose RDSEED is faulty.
  const std::pair<const char *, const char *> names[] = {
      {"sse3", "pni"},          {"pclmul", "pclmulqdq"},
      {"ssse3", "ssse3"},       {"fma", "fma"},
      {"cx16", "cx16"},         {"sse4.1", "sse4_1"},
      {"sse4.2", "sse4_2"},     {"movbe", "movbe"},
      {"popcnt", "popcnt"},     {"aes", "aes"},
      {"avx", "avx"},           {"f16c", "f16c"},
      {"rdrnd", "rdrand"},      {"cmov", "cmov"},
      {"sse2", "sse2"},         {"fsgsbase", "fsgsbase"},
      {"bmi", "bmi1"},          {"avx2", "avx2"},
      {"bmi2", "bmi2"},         {"avx512f", "avx512f"},
      {"avx512dq", "avx512dq"}, {"waitpkg", "waitpkg"},
      {"adx", "adx"},           {"avx512ifma", "avx512ifma"},
      {"clwb", "clwb"},         {"avx512cd", "avx512cd"},
      {"sha", "sha_ni"},        {"avx512bw", "avx512bw"},
      {"avx512vl", "avx512vl"}, {"avx512vbmi", "avx512vbmi"},
      {"gfni", "gfni"},         {"avx512vbmi2", "avx512_vbmi2"},
      {"vaes", "vaes"},         {"vpclmulqdq", "vpclmulqdq"},
      {"rdpid", "rdpid"},       {"avx512vnni", "avx512_vnni"},
      {"lzcnt", "abm"},         {"avx512bitalg", "avx512_bitalg"},
      {"amx-tile", "amx_tile"}, {"avx512vpopcntdq", "avx512_vpopcntdq"},
      {"sse4a", "sse4a"},       {"avx512bf16", "avx512_bf16"},
      {"fma4", "fma4"},         {"avx512fp16", "avx512_fp16"},
      {"xsavec", "xsavec"},     {"avxvnni", "avx_vnni"},
      {"clzero", "clzero"},     {"prfchw", "3dnowprefetch"},
      {"sahf", "lahf_lm"},      {"avx512vp2intersect", "avx512_vp2intersect"},
  };
  for (auto [llvm, linux] : names)
    EXPECT_EQ(cpuSupports(llvm), flags.contains(linux) ? Support::Yes : Support::No) << llvm;
}

TEST(CpuFeatures, OtherNamesAreUnknown) {
  EXPECT_EQ(cpuSupports("avx-2048"), Support::Unknown);
  EXPECT_EQ(cpuSupports(""), Support::Unknown);
}

} // namespace
