//===- TokenFileTest.cpp - Text and .npy token files -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/TokenFile.h"
#include "test/runtime/TestFiles.h"

#include <cstring>
#include <gtest/gtest.h>
#include <numeric>

using namespace moe;
using test::TemporaryFolder;

static std::string npy(const std::string &dictionary, const std::string &data, char version = 1) {
  std::string text = dictionary + "\n";
  std::string head = std::string("\x93NUMPY") + version + '\0';
  head += char(text.size() & 255);
  head += char(text.size() >> 8);
  if (version > 1)
    head += std::string(2, '\0');
  return head + text + data;
}

template <typename T> static std::string npyOf(const char *descr, const std::string &shape, std::vector<T> values) {
  std::string data(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
  return npy(std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': " + shape + ", }", data);
}

static std::vector<int64_t> all(const TokenFile &file) {
  std::vector<int64_t> tokens(size_t(file.size()));
  EXPECT_TRUE(file.read(0, tokens));
  return tokens;
}

static std::string problemOf(const std::filesystem::path &path, int64_t vocabulary) {
  auto file = TokenFile::open(path, vocabulary);
  if (file)
    return "no problem";
  const Diagnostic &problem = file.error();
  EXPECT_EQ(problem.code, ExitCode::User);
  return problem.what + " @ " + problem.where + " : " + problem.why;
}

TEST(TokenFile, BytesAreShiftedByFour) {
  TemporaryFolder folder;
  auto file = TokenFile::open(folder.write("t.txt", std::string("a\0\xff", 3)), 260);
  ASSERT_TRUE(file);
  EXPECT_TRUE(file->isBytes());
  EXPECT_EQ(all(*file), (std::vector<int64_t>{'a' + 4, 4, 259}));
}

TEST(TokenFile, ReadsEveryIntegerWidth) {
  TemporaryFolder folder;
  const std::vector<int64_t> expected = {0, 3, 120, 77};
  auto check = [&](auto zero, const char *descr, const char *shape) {
    using T = decltype(zero);
    auto path = folder.write("t.npy", npyOf<T>(descr, shape, {0, 3, 120, 77}));
    auto file = TokenFile::open(path, 121);
    ASSERT_TRUE(file) << descr << ": " << problemOf(path, 121);
    EXPECT_FALSE(file->isBytes());
    EXPECT_EQ(all(*file), expected) << descr;
  };
  check(int8_t(), "|i1", "(4,)");
  check(uint8_t(), "|u1", "(2, 2)");
  check(int16_t(), "<i2", "(4,)");
  check(uint16_t(), "<u2", "(1, 4)");
  check(int32_t(), "<i4", "(4,)");
  check(uint32_t(), "<u4", "(4,)");
  check(int64_t(), "<i8", "(4, 1)");
  check(uint64_t(), "<u8", "(4,)");
}

TEST(TokenFile, ReadsVersionTwoHeaders) {
  TemporaryFolder folder;
  auto path = folder.write("t.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}", "\x05\x06", 2));
  auto file = TokenFile::open(path, 10);
  ASSERT_TRUE(file);
  EXPECT_EQ(all(*file), (std::vector<int64_t>{5, 6}));
}

// The position must be that of the first bad token, also beyond the first block of the search and at its edges.
TEST(TokenFile, NamesTheFirstTokenOutsideTheVocabulary) {
  TemporaryFolder folder;
  for (size_t position : {size_t(0), size_t(4095), size_t(4096), size_t(9999)}) {
    std::vector<int32_t> tokens(10000, 6);
    tokens[position] = 7;
    if (position < 9999)
      tokens[9999] = 8;
    std::string problem = problemOf(folder.write("t.npy", npyOf<int32_t>("<i4", "(10000,)", tokens)), 7);
    EXPECT_NE(problem.find("position " + std::to_string(position) + " "), std::string::npos) << problem;
    EXPECT_NE(problem.find("is 7,"), std::string::npos) << problem;
  }
  EXPECT_NE(problemOf(folder.write("n.npy", npyOf<int16_t>("<i2", "(2,)", {1, -3})), 7).find("is -3,"),
            std::string::npos);
  EXPECT_NE(problemOf(folder.write("u.npy", npyOf<uint64_t>("<u8", "(2,)", {1, ~uint64_t(0)})), 7)
                .find("is 18446744073709551615,"),
            std::string::npos);
}

TEST(TokenFile, RefusesWhatItCannotRead) {
  TemporaryFolder folder;
  auto contains = [&](const std::string &problem, const char *text) {
    EXPECT_NE(problem.find(text), std::string::npos) << problem;
  };
  contains(problemOf(folder.path() / "missing", 300), "No such file");
  contains(problemOf(folder.path(), 300), "not a regular file");
  contains(problemOf(folder.write("e.txt", ""), 300), "empty");
  contains(problemOf(folder.write("t.txt", "text"), 259), "259 entries");
  contains(problemOf(folder.write("x.npy", "text"), 300), "does not start with");
  auto header = [](const char *descr, const char *order, const char *shape) {
    return std::string("{'descr': '") + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + "}";
  };
  const std::string data(64, '\1');
  contains(problemOf(folder.write("f.npy", npy(header("<f4", "False", "(4,)"), data)), 300), "not an integer");
  contains(problemOf(folder.write("b.npy", npy(header(">i4", "False", "(4,)"), data)), 300), "big endian");
  contains(problemOf(folder.write("c.npy", npy(header("|i1", "True", "(2, 2)"), data)), 300), "Fortran");
  contains(problemOf(folder.write("d.npy", npy(header("|i1", "False", "(2, 2, 2)"), data)), 300), "shape");
  contains(problemOf(folder.write("s.npy", npy(header("|i1", "False", "()"), data)), 300), "shape");
  contains(problemOf(folder.write("t.npy", npy(header("<i8", "False", "(9,)"), data)), 300), "truncated");
  contains(problemOf(folder.write("z.npy", npy(header("|i1", "False", "(0,)"), data)), 300), "empty");
  contains(problemOf(folder.write("o.npy", npy(header("|i1", "False", "(99999999999, 99999999999)"), data)), 300),
           "shape");
}

// No prefix and no single altered byte of a header may crash the reader or make it read beyond the file.
TEST(TokenFile, SurvivesDamagedHeaders) {
  TemporaryFolder folder;
  const std::string whole = npyOf<int16_t>("<i2", "(2, 3)", {1, 2, 3, 4, 5, 6});
  for (size_t length = 6; length < whole.size(); ++length)
    EXPECT_FALSE(TokenFile::open(folder.write("t.npy", whole.substr(0, length)), 300)) << length;
  for (size_t i = 6; i < whole.size() - 12; ++i)
    for (char byte : {'\0', '\1', '\xff', '9', '(', '\''}) {
      std::string altered = whole;
      altered[i] = byte;
      if (auto file = TokenFile::open(folder.write("t.npy", altered), 1 << 16)) {
        std::vector<int64_t> tokens(size_t(file->size()));
        EXPECT_TRUE(file->read(0, tokens));
      }
    }
}
