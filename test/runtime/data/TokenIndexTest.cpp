//===- TokenIndexTest.cpp - .idx files, and damaged ones ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/TokenIndex.h"
#include "runtime/data/Documents.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"

#include <cstring>
#include <gtest/gtest.h>

using namespace moe;

namespace {

/// Little-endian numbers, one after the other.
class Bytes {
public:
  explicit Bytes(std::string_view magic) : text(magic) {}
  template <typename T> Bytes &add(std::initializer_list<int64_t> values) {
    for (int64_t value : values) {
      const T narrow = static_cast<T>(value);
      text.append(reinterpret_cast<const char *>(&narrow), sizeof(T));
    }
    return *this;
  }
  std::string text;
};

using namespace std::string_view_literals;

/// Sequences of 3, 0 and 4 tokens of two bytes; documents of the first and of the others.
std::string megatron() {
  return Bytes("MMIDIDX\0\0"sv)
      .add<int64_t>({1})
      .add<uint8_t>({8})
      .add<int64_t>({3, 3})
      .add<int32_t>({3, 0, 4})
      .add<int64_t>({0, 6, 6})
      .add<int64_t>({0, 1, 3})
      .text;
}
std::string fairseq() {
  return Bytes("MMIDIDX\0\0"sv)
      .add<int64_t>({1})
      .add<uint8_t>({4})
      .add<int64_t>({2})
      .add<int32_t>({3, 4})
      .add<int64_t>({0, 12})
      .text;
}
std::string legacy() {
  return Bytes("TNTIDX\0\0"sv)
      .add<int64_t>({1, 4, 4, 2, 2})
      .add<int64_t>({0, 1, 2})
      .add<int64_t>({0, 3, 7})
      .add<int64_t>({3, 4})
      .text;
}

Expected<TokenIndex> parse(const std::string &index, uint64_t binBytes) {
  return parseTokenIndex(std::as_bytes(std::span(index)), binBytes, "x.idx");
}

/// The message after one number of a file is replaced.
template <typename T> std::string damage(std::string index, size_t offset, T value, uint64_t binBytes) {
  std::memcpy(index.data() + offset, &value, sizeof(T));
  auto parsed = parse(index, binBytes);
  return parsed ? "" : parsed.error().why;
}

} // namespace

TEST(TokenIndex, ReadsTheThreeFormats) {
  auto index = parse(megatron(), 14);
  ASSERT_TRUE(index) << index.error().str();
  EXPECT_EQ(index->width, 2);
  EXPECT_FALSE(index->isSigned);
  EXPECT_EQ(index->begins, (std::vector<int64_t>{0, 3, 7}));
  // With modes of multimodal files.
  EXPECT_TRUE(parse(megatron() + std::string(3, '\0'), 14));
  index = parse(fairseq(), 28);
  ASSERT_TRUE(index) << index.error().str();
  EXPECT_EQ(index->width, 4);
  EXPECT_TRUE(index->isSigned);
  EXPECT_EQ(index->begins, (std::vector<int64_t>{0, 3, 7}));
  index = parse(legacy(), 28);
  ASSERT_TRUE(index) << index.error().str();
  EXPECT_EQ(index->begins, (std::vector<int64_t>{0, 3, 7}));
}

// Every cut of a file is refused, and so is every byte more but the modes.
TEST(TokenIndex, RefusesCutFiles) {
  for (const auto &[text, bytes] : {std::pair{megatron(), 14}, {fairseq(), 28}, {legacy(), 28}}) {
    for (size_t size = 0; size < text.size(); ++size)
      EXPECT_FALSE(parse(text.substr(0, size), uint64_t(bytes))) << size;
    EXPECT_FALSE(parse(text + "x", uint64_t(bytes)));
  }
}

TEST(TokenIndex, BelievesNoNumber) {
  const int64_t huge = INT64_MAX;
  EXPECT_NE(damage(megatron(), 9, int64_t(2), 14).find("version is 2"), std::string::npos);
  EXPECT_NE(damage(megatron(), 17, uint8_t(7), 14).find("floating-point"), std::string::npos);
  EXPECT_NE(damage(megatron(), 17, uint8_t(11), 14).find("type 11"), std::string::npos);
  EXPECT_NE(damage(megatron(), 18, huge, 14).find("do not fit"), std::string::npos);
  EXPECT_NE(damage(megatron(), 26, huge, 14).find("ends of documents"), std::string::npos);
  EXPECT_NE(damage(megatron(), 34, int32_t(-3), 14).find("sequence 0 has -3"), std::string::npos);
  EXPECT_NE(damage(megatron(), 34, int32_t(8), 14).find("sequence 0 has 8"), std::string::npos);
  EXPECT_NE(damage(megatron(), 34, int32_t(2), 14).find("sequence 1 does not begin"), std::string::npos);
  EXPECT_NE(damage(megatron(), 46, int64_t(1), 14).find("sequence 0 does not begin"), std::string::npos);
  EXPECT_NE(damage(megatron(), 46, huge, 14).find("sequence 0 does not begin"), std::string::npos);
  EXPECT_NE(damage(megatron(), 70, int64_t(1), 14).find("document 0 begins"), std::string::npos);
  EXPECT_NE(damage(megatron(), 78, int64_t(4), 14).find("document 1 begins"), std::string::npos);
  EXPECT_NE(damage(megatron(), 86, int64_t(0), 14).find("document 2 begins"), std::string::npos);
  EXPECT_NE(damage(megatron(), 86, int64_t(2), 14).find("end with sequence 2"), std::string::npos);
  EXPECT_NE(damage(megatron(), 0, 'X', 14).find("like none"), std::string::npos);
  EXPECT_NE(damage(megatron(), 9, int64_t(1), 13).find("no multiple"), std::string::npos);
  EXPECT_NE(damage(megatron(), 9, int64_t(1), 16).find("have 7 tokens, the .bin file has 8"), std::string::npos);
  EXPECT_NE(damage(legacy(), 24, int64_t(8), 28).find("have 8 bytes"), std::string::npos);
  EXPECT_NE(damage(legacy(), 32, huge, 28).find("sequences and"), std::string::npos);
  EXPECT_NE(damage(legacy(), 40, int64_t(3), 28).find("3 sizes"), std::string::npos);
  EXPECT_NE(damage(legacy(), 80, INT64_MIN, 28).find("sequence 0 has -1"), std::string::npos);
  EXPECT_NE(damage(legacy(), 72, int64_t(1), 28).find("sequence 0 does not begin"), std::string::npos);
}

// A prefix, the .bin and the .idx file mean the same; without its index a .bin file is no text.
TEST(TokenFile, FindsTheIndex) {
  test::TemporaryFolder folder;
  folder.write("a.text.bin", Bytes("").add<uint16_t>({5, 6, 7, 300, 9, 10, 11}).text);
  for (const char *name : {"a.text.bin", "a.text.idx", "a.text"}) {
    auto missing = TokenFile::open(folder.path() / name, 301);
    EXPECT_FALSE(missing);
  }
  folder.write("a.text.idx", megatron());
  for (const char *name : {"a.text.bin", "a.text.idx", "a.text"}) {
    auto tokens = TokenFile::open(folder.path() / name, 301);
    ASSERT_TRUE(tokens) << tokens.error().str();
    EXPECT_EQ(tokens->size(), 7);
    EXPECT_EQ(tokens->documents(), (std::vector<int64_t>{0, 3, 7}));
    std::vector<int64_t> all(7);
    ASSERT_TRUE(tokens->read(0, all));
    EXPECT_EQ(all[3], 300);
  }
  auto narrow = TokenFile::open(folder.path() / "a.text", 300);
  ASSERT_FALSE(narrow);
  EXPECT_NE(narrow.error().where.find("position 3"), std::string::npos);
}

// Documents of 1, 6, 3 and 2 tokens for a model that reads 2: none, three, one and one piece.
TEST(Documents, ArePiecesWithoutNeighbours) {
  test::TemporaryFolder folder;
  folder.write("d.bin", Bytes("").add<uint8_t>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}).text);
  folder.write("d.idx", Bytes("MMIDIDX\0\0"sv)
                            .add<int64_t>({1})
                            .add<uint8_t>({1})
                            .add<int64_t>({4})
                            .add<int32_t>({1, 6, 3, 2})
                            .add<int64_t>({0, 1, 7, 10})
                            .text);
  test::FakeSession session({.length = 2});
  ModelInputs inputs = *ModelInputs::describe(session.plan());
  auto tokens = std::make_shared<const TokenFile>(std::move(*TokenFile::open(folder.path() / "d", 260)));
  auto documents = Documents::create(tokens, inputs, *StreamColumns::create(inputs));
  ASSERT_TRUE(documents) << documents.error().str();
  std::vector<std::vector<int64_t>> pieces;
  Sample sample;
  for (int64_t i = 0; i < (*documents)->count(); ++i) {
    ASSERT_TRUE((*documents)->read(i, sample));
    pieces.push_back(sample.columns[0].tokens);
  }
  EXPECT_EQ(pieces, (std::vector<std::vector<int64_t>>{{2, 3, 4}, {4, 5, 6}, {6, 7}, {8, 9, 10}, {11, 12}}));

  session.mutablePlan().mutable_training()->set_pad_id(-1);
  inputs = *ModelInputs::describe(session.plan());
  EXPECT_FALSE(Documents::create(tokens, inputs, *StreamColumns::create(inputs)));
}
