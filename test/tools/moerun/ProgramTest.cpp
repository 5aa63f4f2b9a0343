//===- ProgramTest.cpp - The program from outside ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/tools/moerun/TokenModel.h"

#include <chrono>
#include <csignal>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

TEST_F(Program, ExplainsItself) {
  EXPECT_EQ(moerun({"--version"}).out.find("moerun "), 0u);
  for (const char *command : {"train", "eval", "run", "bench"}) {
    EXPECT_NE(moerun({"--help"}).out.find(command), std::string::npos);
    Outcome help = moerun({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.out.find("--init-state FILE"), std::string::npos);
  }
  refuses(moerun({}), 2, {"no command"});
  refuses(moerun({"trian"}), 2, {"did you mean train?"});
  refuses(moerun({"train", "x", "--maxupdate", "3"}), 2, {"--max-update"});
  refuses(moerun(train("c", 3, {"--log-format", "xml"})), 2, {"xml"});
  refuses(moerun(train("c", 3, {"--valid-split", "1.5"})), 2, {"--valid-split"});
}

TEST_F(Program, MeasuresSteps) {
  Outcome json = moerun({"bench", at("p.moe"), "--steps", "2", "--json"});
  EXPECT_EQ(json.code, 0) << json.err;
  for (const char *text : {"\"program\":\"micro_step\"", "\"program\":\"update\"", "\"ratio\":0", "\"runs\":1"})
    EXPECT_NE(json.out.find(text), std::string::npos) << json.out;
  Outcome text = moerun({"bench", at("p.moe"), "--steps", "2", "--top", "1"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("tokens/s"), std::string::npos) << text.out;
  refuses(moerun({"bench", at("p.moe"), "--steps", "0"}), 2, {"--steps"});
}

TEST_F(Program, RefusesBadInputBeforeAnyWork) {
  const std::string plan = readFile(at("p.moe"));
  folder.write("p.moe", plan.substr(0, plan.size() / 2));
  refuses(moerun(train("c", 3)), 1, {"p.moe"});
  std::string altered = plan;
  altered[100] = char(altered[100] ^ 1);
  folder.write("p.moe", altered);
  refuses(moerun(train("c", 3)), 1, {"p.moe"});
  folder.write("p.moe", "hello");
  refuses(moerun(train("c", 3)), 1, {"p.moe"});
  folder.write("p.moe", plan);

  auto withData = [&](const std::string &name) { return moerun(train("c", 3, {"--data", at(name)})); };
  refuses(withData("none"), 1, {"No such file"});
  folder.write("empty", "");
  refuses(withData("empty"), 1, {"empty"});
  folder.write("short", std::string(1024, 'x'));
  refuses(withData("short"), 1, {"a sample takes 1025 tokens, this part of the file has 1024"});
  folder.write("file", "");
  refuses(moerun(train("file", 3)), 1, {"checkpoint folder"});
  refuses(moerun({"run", at("p.moe"), "--inputs", at("text"), "--steps", "1", "--save-state", at("no/where")}), 1,
          {"no/where", "No such file"});
  refuses(moerun({"run", at("p.moe"), "--inputs", at("text"), "--steps", "1"}), 1, {"safetensors"});
  EXPECT_FALSE(std::filesystem::exists(at("c/checkpoint_00000003.safetensors")));
}

TEST_F(Program, TrainsSavesAndRefusesToMixRuns) {
  Outcome first = moerun(train("c", 3, {"--log-interval", "1"}));
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(std::ranges::count(first.out, '\n'), 4) << first.out; // three updates and the memory
  EXPECT_NE(first.out.find("\"memory\""), std::string::npos);
  refuses(moerun(train("c", 5)), 1, {"already holds a run", "--resume"});
  EXPECT_EQ(moerun(train("c", 5, {"--resume"})).code, 0);
  EXPECT_EQ(moerun(train("d", 5, {"--resume"})).code, 0); // without a checkpoint: anew
  EXPECT_TRUE(readFile(at("c/checkpoint_00000005.safetensors")) == readFile(at("d/checkpoint_00000005.safetensors")));
  EXPECT_NE(moerun(train("c", 5, {"--resume"})).err.find("nothing to do"), std::string::npos);

  EXPECT_TRUE(makePlan({.parameter = "embedding"}).write(folder.path() / "p.moe"));
  refuses(moerun(train("c", 9, {"--resume"})), 1, {"missing embedding", "unexpected weight"});
  EXPECT_TRUE(makePlan({}).write(folder.path() / "p.moe"));
  // A damaged newest checkpoint is reported, the one before is used.
  std::string newest = readFile(at("c/checkpoint_00000005.safetensors"));
  folder.write("c/checkpoint_00000005.safetensors", newest.substr(0, newest.size() - 9));
  Outcome fallback = moerun(train("c", 5, {"--resume"}));
  EXPECT_EQ(fallback.code, 0);
  EXPECT_NE(fallback.err.find("checkpoint_00000005"), std::string::npos);
  EXPECT_NE(fallback.err.find("(update 3)"), std::string::npos);
  EXPECT_TRUE(readFile(at("c/checkpoint_00000005.safetensors")) == newest);
}

// Killed at twenty random moments, saves included (every update saves): always loadable, and the end is bitwise equal.
TEST_F(Program, SurvivesSigkill) {
  const int updates = 400;
  const auto begin = std::chrono::steady_clock::now();
  Outcome whole = moerun(train("whole", updates, {"--save-interval-updates", "1", "--keep-last", "2"}));
  ASSERT_EQ(whole.code, 0) << whole.err;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const std::string last = "/checkpoint_00000400.safetensors";
  std::mt19937 random(7);
  int killed = 0;
  for (int attempt = 0; attempt < 20; ++attempt) {
    double moment = seconds / 12 * double(random() % 1000) / 1000;
    Outcome outcome = moerun(train("killed", updates, {"--save-interval-updates", "1", "--keep-last", "2", "--resume"}),
                             {.killAfter = moment, .signal = SIGKILL});
    killed += outcome.code == -SIGKILL;
    EXPECT_EQ(outcome.err.find("error"), std::string::npos) << outcome.err;
  }
  EXPECT_GE(killed, 10); // a slow machine may end early, but most runs must have been cut
  Outcome rest = moerun(train("killed", updates, {"--resume"}));
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_TRUE(readFile(at("killed") + last) == readFile(at("whole") + last));
}

TEST_F(Program, StopsOnSigterm) {
  Outcome outcome = moerun(train("c", 100000000), {.killAfter = 0.7, .signal = SIGTERM});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("--resume"), std::string::npos) << outcome.err;
  int checkpoints = 0;
  for (const auto &entry : std::filesystem::directory_iterator(at("c")))
    checkpoints += entry.path().extension() == ".safetensors";
  EXPECT_EQ(checkpoints, 1);
}

TEST_F(Program, AFullDiskKeepsThePreviousCheckpoint) {
  ASSERT_EQ(moerun(train("c", 2)).code, 0);
  const std::string before = readFile(at("c/checkpoint_00000002.safetensors"));
  refuses(moerun(train("c", 4, {"--resume", "--keep-last", "1"}), {.fileLimit = 30000}), 1,
          {"cannot save the checkpoint", "free some space"});
  EXPECT_TRUE(readFile(at("c/checkpoint_00000002.safetensors")) == before);
  EXPECT_FALSE(std::filesystem::exists(at("c/.checkpoint_00000004.safetensors.tmp")));
}

TEST_F(Program, ABrokenPipeDoesNotStopTraining) {
  EXPECT_EQ(moerun(train("c", 30, {"--log-interval", "1"}), {.brokenPipe = true}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(at("c/checkpoint_00000030.safetensors")));
}

TEST_F(Program, TheDeadlineEndsARunThatHangs) {
  EXPECT_TRUE(makePlan({.hangs = true}).write(folder.path() / "p.moe"));
  refuses(moerun(train("c", 3, {"--deadline", "0.3"})), 1, {"update 1", "micro_step", "--deadline"});
}
