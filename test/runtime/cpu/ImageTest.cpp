//===- ImageTest.cpp - ELF bytes that are not what they say -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Image.h"

#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <random>

using namespace moe::cpu;

namespace {

/// This program itself: a dynamic ELF file that every Linux has.
std::string elf() {
  std::ifstream stream("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(Image, ListsUndefinedSymbols) {
  std::vector<std::string> names = undefinedSymbols(elf());
  EXPECT_TRUE(std::ranges::find(names, "memcpy") != names.end());
  EXPECT_TRUE(std::ranges::find(names, "__gmon_start__") == names.end()) << "weak symbols may stay undefined";
}

TEST(Image, SurvivesDamage) {
  std::string sound = elf();
  EXPECT_TRUE(undefinedSymbols("").empty());
  for (size_t size : {1, 4, 63, 64, 100, 4096})
    (void)undefinedSymbols(std::string_view(sound).substr(0, size));
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    // The header, and the section headers at the end: where the offsets are.
    for (int changes = 0; changes < 4; ++changes) {
      size_t at = random() % 2 ? random() % 64 : sound.size() - 1 - random() % 2048;
      std::swap(sound[at], sound[sound.size() - 1 - random() % 2048]);
    }
    sound.replace(0, 6,
                  "\x7f"
                  "ELF\x02\x01");
    (void)undefinedSymbols(sound);
  }
}

} // namespace
