//===- CommandLineTest.cpp - Flags, help and near misses ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/CommandLine.h"

#include <gtest/gtest.h>

using namespace moe;

static const Command command = {
    "train",
    "Trains.",
    "PLAN",
    {{"data", "FILE", "what to train on", true}, {"max-update", "N", "when to end"}, {"resume", "", "go on"}},
    ""};

static Expected<Arguments> parse(std::vector<const char *> words) {
  return parseArguments(command, words);
}

static std::string problemOf(std::vector<const char *> words) {
  auto arguments = parse(std::move(words));
  if (arguments)
    return "no problem";
  EXPECT_EQ(arguments.error().code, ExitCode::Usage);
  return arguments.error().what + "; " + arguments.error().why;
}

TEST(CommandLine, ACommandMayTakeFlagsAlone) {
  static const Command bare = {"doctor", "Examines.", "", {{"json", "", "as JSON"}}, ""};
  const char *flag[] = {"--json"}, *word[] = {"p.moe"};
  auto arguments = parseArguments(bare, flag);
  ASSERT_TRUE(arguments) << arguments.error().str();
  EXPECT_TRUE(arguments->has("json"));
  auto refused = parseArguments(bare, word);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what, "unexpected argument 'p.moe'");
  EXPECT_TRUE(helpText(bare).starts_with("usage: moerun doctor [flags]\n"));
}

TEST(CommandLine, ReadsBothForms) {
  auto arguments = parse({"--data", "a b", "--max-update=7", "p.moe", "--resume"});
  ASSERT_TRUE(arguments);
  EXPECT_EQ(arguments->operand, "p.moe");
  EXPECT_EQ(arguments->text("data"), "a b");
  EXPECT_EQ(*arguments->integer("max-update", 0, 0), 7);
  EXPECT_TRUE(arguments->has("resume"));
  EXPECT_EQ(parse({"p", "--data=x=y"})->text("data"), "x=y");
  EXPECT_EQ(parse({"p", "--data="})->text("data"), "");
  EXPECT_EQ(*parse({"p", "--data", "x"})->integer("max-update", 5, 0), 5);
}

TEST(CommandLine, TheLastOfARepeatedFlagWins) {
  auto arguments = parse({"p", "--data", "a", "--max-update", "1", "--data=b", "--max-update", "2"});
  ASSERT_TRUE(arguments);
  EXPECT_EQ(arguments->text("data"), "b");
  EXPECT_EQ(*arguments->integer("max-update", 0, 0), 2);
}

TEST(CommandLine, NamesTheNearestFlag) {
  EXPECT_EQ(problemOf({"p", "--max-updates", "3"}),
            "unknown flag '--max-updates' of `moerun train`; did you mean --max-update?");
  EXPECT_EQ(problemOf({"p", "--dta=3"}), "unknown flag '--dta' of `moerun train`; did you mean --data?");
  EXPECT_EQ(problemOf({"p", "-data", "3"}), "unknown flag '-data' of `moerun train`; did you mean --data?");
  EXPECT_EQ(problemOf({"p", "--zzzzzzzz"}), "unknown flag '--zzzzzzzz' of `moerun train`; ");
}

TEST(CommandLine, RefusesIncompleteLines) {
  EXPECT_NE(problemOf({"p", "--data"}).find("needs a value (FILE)"), std::string::npos);
  EXPECT_NE(problemOf({"p", "--data", "x", "--resume=1"}).find("takes no value"), std::string::npos);
  EXPECT_NE(problemOf({"--data", "x"}).find("no PLAN given"), std::string::npos);
  EXPECT_NE(problemOf({"p", "q", "--data", "x"}).find("unexpected argument 'q'"), std::string::npos);
  EXPECT_NE(problemOf({"p"}).find("missing flags: --data"), std::string::npos);
}

TEST(CommandLine, ChecksNumbers) {
  for (const char *text : {"", "x", "1x", "-1", "1.5", "99999999999999999999", " 1"}) {
    auto arguments = parse({"p", "--data", "x", "--max-update", text});
    ASSERT_TRUE(arguments);
    EXPECT_FALSE(arguments->integer("max-update", 0, 0)) << text;
  }
  auto real = [](const char *text) { return parse({"p", "--data", text})->real("data", 0, 0, 1); };
  EXPECT_EQ(*real("0.05"), 0.05);
  EXPECT_EQ(*real("5e-2"), 0.05);
  for (const char *text : {"1", "-0.1", "nan", "inf", "", "0.1x"})
    EXPECT_FALSE(real(text)) << text;
}

// Help is made from the table that the parser reads, so a flag cannot be missing from it.
TEST(CommandLine, HelpListsEveryFlag) {
  EXPECT_TRUE(parse({"--bogus", "--help"})->help);
  std::string text = helpText(command);
  for (const char *part :
       {"moerun train PLAN", "--data FILE", "what to train on (required)", "--max-update N", "--resume"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
}
