//===- TokenModel.h - The program from outside, on a model of a test's own ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_TOOLS_MOERUN_TOKENMODEL_H
#define MOEC_TEST_TOOLS_MOERUN_TOKENMODEL_H

#include "test/runtime/TestFiles.h"
#include "test/runtime/plan/PlanBuilder.h"
#include "test/tools/moerun/Process.h"

#include <gtest/gtest.h>
#include <random>

namespace moe::test {

struct ModelOptions {
  std::string parameter = "weight";
  bool hangs = false;
  int64_t length = 1024;
  /// Sequences and weights are split over an axis of this size; what is logged and saved does not depend on it.
  int64_t ranks = 1;
  /// The weights lie in a flat bucket.
  bool isFlat = false;
};

/// A plan with real kernels: sixteen sequences of tokens are mixed into a weight per position.
PlanFile makePlan(const ModelOptions &options);

class Program : public testing::Test {
protected:
  Program() {
    std::string text;
    std::mt19937 random(1);
    for (int i = 0; i < 100000; ++i)
      text += char('a' + random() % 26);
    folder.write("text", text);
    EXPECT_TRUE(makePlan({}).write(folder.path() / "p.moe"));
  }

  std::string at(const std::string &name) const { return (folder.path() / name).string(); }
  Outcome moerun(std::vector<std::string> words, const ProcessOptions &options = {}) const {
    words.insert(words.begin(), MOE_TEST_PROGRAM);
    return runProcess(folder.path(), words, options);
  }
  std::vector<std::string> train(const std::string &saveDir, int updates, std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {
        "train", at("p.moe"), "--data", at("text"), "--max-update", std::to_string(updates), "--save-dir", at(saveDir)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// Expects exit code 1 or 2, one message with all `texts`, and no crash.
  void refuses(const Outcome &outcome, int code, std::initializer_list<const char *> texts) const {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_EQ(outcome.err.find("error: "), outcome.err.rfind("error: ")) << outcome.err;
    for (const char *text : texts)
      EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
  }

  TemporaryFolder folder;
};

} // namespace moe::test

#endif // MOEC_TEST_TOOLS_MOERUN_TOKENMODEL_H
