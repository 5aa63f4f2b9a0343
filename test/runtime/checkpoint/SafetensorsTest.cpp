//===- SafetensorsTest.cpp - The file format, friendly and hostile -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Safetensors.h"
#include "test/runtime/TestFiles.h"

#include <cstring>
#include <gtest/gtest.h>

using namespace moe;
using test::TemporaryFolder;

static std::string assemble(const std::string &header, const std::string &data, uint64_t length) {
  return std::string(reinterpret_cast<const char *>(&length), 8) + header + data;
}
static std::string assemble(const std::string &header, const std::string &data) {
  return assemble(header, data, header.size());
}

static std::string problemOf(const TemporaryFolder &folder, const std::string &contents) {
  auto file = SafetensorsFile::open(folder.write("t.safetensors", contents));
  return file ? "no problem" : file.error().what + ": " + file.error().why;
}

/// A file made by hand from the format's description.
static const std::string goodHeader = R"({"__metadata__":{"a":"b"},)"
                                      R"("y":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},)"
                                      R"("x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                                      R"("z":{"dtype":"U8","shape":[3,0],"data_offsets":[16,16]}})";

TEST(Safetensors, ReadsAFileMadeByHand) {
  TemporaryFolder folder;
  const float x[] = {1.5f, -2};
  const int64_t y = 77;
  std::string data(reinterpret_cast<const char *>(x), 8);
  data.append(reinterpret_cast<const char *>(&y), 8);
  auto file = SafetensorsFile::open(folder.write("t", assemble(goodHeader, data)));
  ASSERT_TRUE(file) << file.error().why;
  EXPECT_EQ(file->metadata().at("a"), "b");
  ASSERT_EQ(file->tensors().size(), 3u);
  const TensorEntry *entry = file->find("x");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->type, "F32");
  EXPECT_EQ(entry->shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(std::memcmp(file->bytes(*entry).data(), x, 8), 0);
  EXPECT_EQ(std::memcmp(file->bytes(*file->find("y")).data(), &y, 8), 0);
  EXPECT_TRUE(file->bytes(*file->find("z")).empty());
  EXPECT_EQ(file->find("w"), nullptr);
  EXPECT_FALSE(file->hasDigest());
}

// Each writes one rule of the format wrongly; the reader that leaves a check out accepts it or reads out of bounds.
TEST(Safetensors, RefusesHostileHeaders) {
  TemporaryFolder folder;
  const std::string data(16, 'x');
  struct Case {
    const char *name;
    std::string contents;
  };
  auto entry = [](const std::string &dtype, const std::string &shape, const std::string &offsets) {
    return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string one = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const Case cases[] = {
      {"empty", ""},
      {"seven bytes", "1234567"},
      {"header beyond the file", assemble("{}", "", 3)},
      {"huge header", assemble("{}", "", ~uint64_t(0))},
      {"huge header that wraps around", assemble("{}", "", ~uint64_t(0) - 7)},
      {"no JSON", assemble("hello", "")},
      {"cut JSON", assemble(R"({"t":{"dtype")", "")},
      {"array", assemble("[]", "")},
      {"number", assemble("1", "")},
      {"trailing text", assemble("{} x", "")},
      {"null entry", assemble(R"({"t":null})", "")},
      {"string entry", assemble(R"({"t":"F32"})", "")},
      {"missing offsets", assemble(R"({"t":{"dtype":"F32","shape":[0]}})", "")},
      {"extra key", assemble(R"({"t":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"q":1}})", "")},
      {"duplicate key", assemble(R"({"t":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}})", "")},
      {"duplicate name", assemble("{" + one + "," + one + "}", std::string(8, 'x'))},
      {"metadata not strings", assemble(R"({"__metadata__":{"a":1}})", "")},
      {"duplicate metadata", assemble(R"({"__metadata__":{"a":"1","a":"2"}})", "")},
      {"unknown type", assemble(entry("F99", "[4]", "[0,16]"), data)},
      {"negative length", assemble(entry("F32", "[-4]", "[0,16]"), data)},
      {"fraction", assemble(entry("F32", "[4.0]", "[0,16]"), data)},
      {"nested shape", assemble(entry("F32", "[[4]]", "[0,16]"), data)},
      {"one offset", assemble(entry("F32", "[4]", "[16]"), data)},
      {"three offsets", assemble(entry("F32", "[4]", "[0,16,16]"), data)},
      {"reversed offsets", assemble(entry("F32", "[4]", "[16,0]"), data)},
      {"wrong size", assemble(entry("F32", "[3]", "[0,16]"), data)},
      {"beyond the end", assemble(entry("F32", "[5]", "[0,20]"), data)},
      {"huge offsets", assemble(entry("F32", "[4]", "[18446744073709551600,18446744073709551615]"), data)},
      {"shape that overflows", assemble(entry("F32", "[4294967296,4294967296,4]", "[0,16]"), data)},
      {"size that overflows", assemble(entry("F64", "[2305843009213693954]", "[0,16]"), data)},
      {"hole before", assemble(entry("F32", "[2]", "[8,16]"), data)},
      {"hole after", assemble(entry("F32", "[2]", "[0,8]"), data)},
      {"overlap", assemble("{" + one + R"(,"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})", data)},
      {"same place", assemble("{" + one + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", data)},
      {"not UTF-8", assemble("{\"\xff\":1}", "")},
      {"deep array", assemble(R"({"t":{"shape":)" + std::string(2000000, '['), "")},
      {"deep object", assemble(
                          [] {
                            std::string text;
                            for (int i = 0; i < 200000; ++i)
                              text += "{\"a\":";
                            return text;
                          }(),
                          "")},
      {"long shape", assemble(entry(
                                  "F32",
                                  "[" +
                                      [] {
                                        std::string ones = "1";
                                        for (int i = 0; i < 100000; ++i)
                                          ones += ",1";
                                        return ones;
                                      }() +
                                      "]",
                                  "[0,4]"),
                              "1234")},
  };
  for (const Case &hostile : cases) {
    std::string problem = problemOf(folder, hostile.contents);
    EXPECT_NE(problem.find("not a complete safetensors file"), std::string::npos) << hostile.name << ": " << problem;
    EXPECT_LT(problem.size(), 400u) << hostile.name;
  }
}

// Every truncation is refused; no altered byte may crash the reader or make it reach beyond the file.
TEST(Safetensors, SurvivesEveryTruncationAndAlteration) {
  TemporaryFolder folder;
  const std::string whole = assemble(goodHeader, std::string(16, 'd'));
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_NE(problemOf(folder, whole.substr(0, length)), "no problem") << length;
  EXPECT_NE(problemOf(folder, whole + "x"), "no problem");
  for (size_t i = 0; i < 8 + goodHeader.size(); i += 2)
    for (unsigned char byte : {'\0', '9', '"', ']'}) {
      std::string altered = whole;
      altered[i] = char(byte);
      auto file = SafetensorsFile::open(folder.write("t", altered));
      for (size_t e = 0; file && e < file->tensors().size(); ++e) {
        auto bytes = file->bytes(file->tensors()[e]);
        EXPECT_LE(bytes.size(), 16u);
        EXPECT_TRUE(bytes.empty() || std::to_integer<char>(bytes.back()) == 'd');
      }
    }
}

static std::span<const std::byte> bytesOf(const std::string &text) {
  return std::as_bytes(std::span(text));
}

TEST(Safetensors, WritesWhatItReads) {
  TemporaryFolder folder;
  const std::string two = "abcd", eight(16, 'e');
  auto path = folder.path() / "out.safetensors";
  ASSERT_TRUE(writeSafetensors(path,
                               {{"b", "F16", {2}, bytesOf(two)},
                                {"n\xc3\xa4me \"quoted\"", "I64", {2, 1}, bytesOf(eight)},
                                {"a", "F16", {1, 2}, bytesOf(two)},
                                {"none", "F32", {0}, {}}},
                               {{"k", "v"}}));
  auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().why;
  EXPECT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->metadata().at("k"), "v");
  const TensorEntry *wide = file->find("n\xc3\xa4me \"quoted\"");
  ASSERT_TRUE(wide);
  EXPECT_EQ(wide->begin, 0u); // the widest elements first, so that all are aligned
  EXPECT_EQ(wide->shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(std::memcmp(file->bytes(*wide).data(), eight.data(), 16), 0);
  EXPECT_LT(file->find("a")->begin, file->find("b")->begin);
  std::string raw = test::readFile(path);
  EXPECT_EQ((raw.size() - 24) % 8, 0u); // data aligned to 8
  ASSERT_FALSE(file->hasDigest());
}

// Fetched tensors come in pieces; a piece at a wrong offset, a short last piece or one left out of the digest would
// show.
TEST(Safetensors, FetchesTensorsInPieces) {
  TemporaryFolder folder;
  std::vector<uint32_t> values((size_t{70} << 20) / 4 + 3);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<uint32_t>(i * 2654435761u);
  auto bytes = std::as_bytes(std::span(values));
  int calls = 0;
  TensorView fetched = {"t", "I32", {int64_t(values.size())}, {}};
  fetched.remote = bytes.size();
  fetched.fetch = [&](uint64_t offset, std::span<std::byte> target) {
    ++calls;
    std::ranges::copy(bytes.subspan(offset, target.size()), target.begin());
    return Status();
  };
  auto near = folder.path() / "near", far = folder.path() / "far";
  ASSERT_TRUE(writeSafetensors(near, {{"t", "I32", {int64_t(values.size())}, bytes}}, {}, true));
  ASSERT_TRUE(writeSafetensors(far, {fetched}, {}, true));
  EXPECT_GE(calls, 4); // digest and data, more than one piece each
  EXPECT_TRUE(test::readFile(near) == test::readFile(far));

  fetched.fetch = [](uint64_t, std::span<std::byte>) { return error("the device is gone"); };
  EXPECT_FALSE(writeSafetensors(folder.path() / "none", {fetched}, {}));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "none"));
}

// A digest that skipped the header, a tensor or the metadata would let one of these alterations pass.
TEST(Safetensors, DigestSeesEveryBit) {
  TemporaryFolder folder;
  const std::string data(12, 'q');
  auto path = folder.path() / "out.safetensors";
  ASSERT_TRUE(writeSafetensors(path, {{"t", "F32", {3}, bytesOf(data)}}, {{"num", "12"}}, true));
  const std::string whole = test::readFile(path);
  ASSERT_TRUE(SafetensorsFile::open(path)->digestMatches());
  for (size_t i = 0; i < whole.size(); ++i)
    for (int bit : {0, 1, 2}) {
      std::string altered = whole;
      altered[i] = char(altered[i] ^ (1 << bit));
      auto file = SafetensorsFile::open(folder.write("a.safetensors", altered));
      EXPECT_FALSE(file && file->digestMatches()) << "byte " << i << " bit " << bit;
    }
}
