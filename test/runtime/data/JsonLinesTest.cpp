//===- JsonLinesTest.cpp - Samples as lines of JSON --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/JsonLines.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"

#include <gtest/gtest.h>

using namespace moe;
using Tokens = std::vector<int64_t>;

static std::string problem(std::string_view line) {
  auto fields = parseJsonLine(line, {"a", "b"});
  return fields ? "" : fields.error().what;
}

TEST(JsonLine, KeepsWantedFields) {
  auto fields = parseJsonLine(R"( {"a": [1, -2, 9007199254740993], "text": {"a": [[]], "deep": [1.5, null]}, "b": 7} )",
                              {"a", "b"});
  ASSERT_TRUE(fields) << fields.error().str();
  EXPECT_EQ(fields->size(), 3u);
  EXPECT_EQ((*fields)["a"], (Tokens{1, -2, 9007199254740993})); // above 2^53: not by way of a double
  EXPECT_EQ((*fields)["b"], Tokens{7});
  EXPECT_EQ((*fields)["text"], Tokens{});
}

TEST(JsonLine, SaysWhatIsWrong) {
  EXPECT_EQ(problem(R"([1, 2])"), "the line is a list, not an object");
  EXPECT_EQ(problem("7"), "the line is a number, not an object");
  EXPECT_EQ(problem("\"x\""), "the line is text, not an object");
  EXPECT_EQ(problem(R"({"a": [1, 2.5]})"), "the field 'a' holds a number with a fraction, not tokens");
  EXPECT_EQ(problem(R"({"a": ["x"]})"), "the field 'a' holds text, not tokens");
  EXPECT_EQ(problem(R"({"a": null})"), "the field 'a' holds null, not tokens");
  EXPECT_EQ(problem(R"({"b": [true]})"), "the field 'b' holds a truth value, not tokens");
  EXPECT_EQ(problem(R"({"a": [[1]]})"), "the field 'a' holds a list within the list");
  EXPECT_EQ(problem(R"({"a": {"c": 1}})"), "the field 'a' holds an object, not tokens");
  EXPECT_EQ(problem(R"({"a": [1], "a": [2]})"), "the field 'a' occurs twice");
  EXPECT_EQ(problem(R"({"a": [18446744073709551615]})"),
            "the field 'a' holds an integer of more than 64 bits, not tokens");
  EXPECT_EQ(problem(R"({"a": [1, 2})").substr(0, 26), "it is no JSON from charact");
  EXPECT_EQ(problem(R"({"a": [1]} {"a": [2]})").substr(0, 13), "it is no JSON");
  EXPECT_EQ(problem(R"({"a": [1e999]})").substr(0, 13), "it is no JSON");
  EXPECT_EQ(problem("{\"\xff\xfe\": 1}").substr(0, 13), "it is no JSON");
  // Nesting costs no stack.
  EXPECT_NE(problem("{\"c\": " + std::string(1000000, '[')), "");
}

TEST(JsonLines, ReadInTheOrderOfTheFile) {
  test::TemporaryFolder folder;
  test::FakeSession session({.length = 3});
  ModelInputs inputs = *ModelInputs::describe(session.plan());
  auto path = folder.write("d.jsonl", "{\"src\": [4, 5, 6, 7], \"id\": \"x\"}\r\n\n   \n{\"src\": [8, 9]}");
  std::string notice;
  auto lines = JsonLines::open(path, inputs, {.columns = {{"input_ids", "src"}}}, notice);
  ASSERT_TRUE(lines) << lines.error().str();
  EXPECT_EQ(notice, "id");
  ASSERT_EQ((*lines)->count(), 2);
  Sample sample;
  for (int repeat = 0; repeat < 2; ++repeat) { // no column of one line stays for the next
    ASSERT_TRUE((*lines)->read(1, sample));
    EXPECT_EQ(sample.columns[0].tokens, (Tokens{8, 1, 1}));
    EXPECT_EQ(sample.columns[1].tokens, (Tokens{9, 1, 1}));
    ASSERT_TRUE((*lines)->read(0, sample));
    EXPECT_EQ(sample.columns[0].tokens, (Tokens{4, 5, 6}));
    EXPECT_EQ(sample.columns[1].tokens, (Tokens{5, 6, 7}));
  }
}

TEST(JsonLines, CutOnRequest) {
  test::TemporaryFolder folder;
  test::FakeSession session({.length = 3});
  ModelInputs inputs = *ModelInputs::describe(session.plan());
  auto path = folder.write("d.jsonl", "{\"input_ids\": [4, 5, 6, 7, 8]}\n"
                                      "{\"input_ids\": [4, 5, 6, 7, 8], \"labels\": [1, 2, 3, 9]}\n");
  std::string notice;
  EXPECT_FALSE(JsonLines::open(path, inputs, {}, notice));
  auto lines = JsonLines::open(path, inputs, {.columns = {}, .truncate = true}, notice);
  ASSERT_TRUE(lines) << lines.error().str();
  Sample sample;
  ASSERT_TRUE((*lines)->read(0, sample));
  EXPECT_EQ(sample.columns[1].tokens, (Tokens{5, 6, 7})); // the label of the last token is still there
  ASSERT_TRUE((*lines)->read(1, sample));
  EXPECT_EQ(sample.columns[1].tokens, (Tokens{1, 2, 3}));
}

TEST(JsonLines, AllBadLinesAtOnce) {
  test::TemporaryFolder folder;
  test::FakeSession session({.length = 3});
  ModelInputs inputs = *ModelInputs::describe(session.plan());
  std::string text = "{\"input_ids\": [4, 5]}\n{\"tokens\": [4, 5]}\n{\"input_ids\": [4, 260]}\n[]\n";
  for (int i = 0; i < 20; ++i)
    text += "{\"input_ids\": [4, 5, 6, 7, 8]}\n";
  std::string notice;
  auto lines = JsonLines::open(folder.write("d.jsonl", text), inputs, {}, notice);
  ASSERT_FALSE(lines);
  const std::string message = lines.error().str();
  for (const char *part : {"line 2: a sample has no values for an input (input input_ids)",
                           "line 3: token outside the vocabulary", "line 4: the line is a list, not an object",
                           "line 21: a sequence is longer", "and 3 lines more", "also has the fields tokens"})
    EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
  EXPECT_EQ(message.find("line 22:"), std::string::npos);
  EXPECT_FALSE(JsonLines::open(folder.write("empty.jsonl", "\n\n"), inputs, {}, notice));
}
