//===- RanksProgramTest.cpp - Runs of many ranks from outside -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The token model splits its sequences and weights over ranks, and all of its numbers are whole: logs and checkpoints
// are those of one rank, byte for byte.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/tools/moerun/TokenModel.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <thread>

using namespace moe;
using namespace moe::test;

namespace {

class Ranks : public Program {
protected:
  /// Writes the plan for so many ranks; its file.
  std::string planFor(int64_t ranks, bool isFlat = false) const {
    std::string path = at("p" + std::to_string(ranks) + (isFlat ? "f" : "") + ".moe");
    EXPECT_TRUE(makePlan({.ranks = ranks, .isFlat = isFlat}).write(path));
    return path;
  }
  std::vector<std::string> trainPlan(const std::string &plan, const std::string &saveDir, int updates,
                                     const std::vector<std::string> &more = {}) const {
    std::vector<std::string> words = train(saveDir, updates, more);
    words[1] = plan;
    return words;
  }
  std::string checkpoint(const std::string &saveDir, const std::string &number) const {
    return readFile(at(saveDir) + "/checkpoint_0000000" + number + ".safetensors");
  }
#ifdef MOE_TEST_MPIEXEC
  /// Ranks with a word that contains this.
  static std::vector<int> processesWith(const std::string &word) {
    std::vector<int> found;
    std::error_code gone;
    for (const auto &entry : std::filesystem::directory_iterator("/proc", gone)) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos)
        continue;
      std::ifstream file(entry.path() / "cmdline");
      const std::string line((std::istreambuf_iterator<char>(file)), {});
      if (line.starts_with(MOE_TEST_PROGRAM) && line.find(word) != std::string::npos)
        found.push_back(std::stoi(name));
    }
    return found;
  }
  /// Starts a process for each list of words.
  Outcome mpirun(const std::vector<std::vector<std::string>> &ranks, const ProcessOptions &options = {}) const {
    std::vector<std::string> words = {MOE_TEST_MPIEXEC, "--allow-run-as-root", "--oversubscribe"};
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (i > 0)
        words.emplace_back(":");
      words.insert(words.end(), {"-n", "1", MOE_TEST_PROGRAM});
      words.insert(words.end(), ranks[i].begin(), ranks[i].end());
    }
    return runProcess(folder.path(), words, options);
  }
#endif
};

/// The records of a log without what depends on the clock.
std::string timeless(const std::string &log) {
  std::string result;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("memory") != std::string::npos)
      continue;
    size_t speed = line.find("\"tokens_per_second\"");
    result += line.substr(0, speed) + "\n";
  }
  return result;
}

} // namespace

TEST_F(Ranks, TrainAsOneDoes) {
  Outcome one = moerun(train("one", 5, {"--log-interval", "1", "--save-interval-updates", "2"}));
  ASSERT_EQ(one.code, 0) << one.err;
  for (bool isFlat : {false, true})
    for (int64_t ranks : {2, 4, 8}) {
      std::string count = std::to_string(ranks), folderName = "many" + count + (isFlat ? "f" : "");
      Outcome many = moerun(trainPlan(planFor(ranks, isFlat), folderName, 5,
                                      {"--log-interval", "1", "--save-interval-updates", "2", "--ranks", count}));
      ASSERT_EQ(many.code, 0) << many.err;
      EXPECT_EQ(timeless(many.out), timeless(one.out));
      for (const char *number : {"2", "4", "5"}) {
        EXPECT_FALSE(checkpoint("one", number).empty());
        EXPECT_EQ(checkpoint(folderName, number), checkpoint("one", number)) << ranks << " ranks, update " << number;
      }
    }
}

TEST_F(Ranks, ResumeOnAnotherMesh) {
  ASSERT_EQ(moerun(train("one", 6)).code, 0);
  ASSERT_EQ(moerun(trainPlan(planFor(4), "many", 2, {"--ranks", "4"})).code, 0);
  Outcome second = moerun(trainPlan(planFor(2, true), "many", 4, {"--ranks", "2", "--resume"}));
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_NE(second.err.find("resuming from"), std::string::npos) << second.err;
  EXPECT_EQ(second.err.find("resuming from"), second.err.rfind("resuming from")) << "one rank says so";
  ASSERT_EQ(moerun(train("many", 6, {"--resume"})).code, 0);
  EXPECT_EQ(checkpoint("many", "6"), checkpoint("one", "6"));
}

TEST_F(Ranks, WhatDoesNotFitIsToldOnce) {
  std::string two = planFor(2);
  refuses(moerun(trainPlan(two, "a", 1)), 1, {"compiled for 2 ranks", "the run has one rank", "--ranks 2"});
  refuses(moerun(trainPlan(two, "a", 1, {"--ranks", "3"})), 1, {"compiled for 2 ranks", "the run has 3 ranks"});
  refuses(moerun(train("a", 1, {"--ranks", "2"})), 1, {"compiled for one rank", "the run has 2 ranks"});
  std::vector<std::string> words = trainPlan(two, "a", 1, {"--ranks", "2"});
  words[3] = at("missing");
  refuses(moerun(words), 1, {"missing"});
  refuses(moerun(trainPlan(two, "a", 1, {"--ranks", "0"})), 2, {"--ranks"});
  refuses(moerun(trainPlan(two, "a", 1, {"--ranks", "5000"})), 2, {"5000"});
}

TEST_F(Ranks, ARankThatHangsEndsTheRun) {
  ModelOptions options{.hangs = true, .ranks = 2};
  ASSERT_TRUE(makePlan(options).write(at("hang.moe")));
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome = moerun(trainPlan(at("hang.moe"), "a", 1, {"--ranks", "2", "--deadline", "1"}));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1 + 10 + 5));
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.err.find("has not moved"), std::string::npos) << outcome.err;
}

TEST_F(Ranks, ASignalSavesOnAllRanks) {
  Outcome outcome = moerun(trainPlan(planFor(2), "a", 1000000, {"--ranks", "2"}), {.killAfter = 2, .signal = SIGTERM});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("the checkpoint is saved"), std::string::npos) << outcome.err;
  Outcome more = moerun(trainPlan(planFor(4), "a", 1, {"--ranks", "4", "--resume"}));
  EXPECT_EQ(more.code, 0) << more.err;
  EXPECT_NE(more.err.find("nothing to do"), std::string::npos) << more.err;
}

#ifdef MOE_TEST_MPIEXEC
TEST_F(Ranks, ProcessesTrainAsThreadsDo) {
  ASSERT_EQ(moerun(train("one", 3)).code, 0);
  std::vector<std::string> words = trainPlan(planFor(2), "mpi", 3);
  Outcome outcome = mpirun({words, words});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(checkpoint("mpi", "3"), checkpoint("one", "3"));
}

TEST_F(Ranks, WhatDiffersBetweenProcessesIsToldOnce) {
  std::vector<std::string> words = trainPlan(planFor(2), "mpi", 3), others = trainPlan(planFor(2, true), "mpi", 3);
  Outcome outcome = mpirun({words, others});
  EXPECT_NE(outcome.code, 0);
  refuses({1, {}, outcome.err}, 1, {"the ranks have different plans", "the plan of rank 1 is not that of rank 0"});
  others = words;
  others[3] = at("missing");
  outcome = mpirun({words, others});
  EXPECT_NE(outcome.code, 0);
  refuses({1, {}, outcome.err}, 1, {"rank 1", "missing"});
  others = trainPlan(planFor(4), "mpi", 3);
  outcome = mpirun({others, others});
  EXPECT_NE(outcome.code, 0);
  refuses({1, {}, outcome.err}, 1, {"compiled for 4 ranks", "the run has 2 ranks"});
  words.insert(words.end(), {"--ranks", "3"});
  outcome = mpirun({words, words});
  EXPECT_NE(outcome.code, 0);
  refuses({1, {}, outcome.err}, 1, {"--ranks 3", "has started 2 ranks"});
}

// A rank dies at any moment, while a checkpoint is being written included: all others end soon, and the run goes on
// from the newest checkpoint bit for bit, on any mesh. MOE_TEST_KILLS says how often (long tests: 50).
TEST_F(Ranks, AKilledRankEndsAllAndTheRunGoesOn) {
  const char *kills = std::getenv("MOE_TEST_KILLS");
  std::mt19937 random(3);
  for (int round = 0; round < (kills ? std::stoi(kills) : 2); ++round) {
    const std::string name = "killed" + std::to_string(round);
    std::vector<std::string> words =
        trainPlan(planFor(2), name, 1000000, {"--save-interval-updates", "2", "--keep-last", "2"});
    Outcome outcome;
    std::thread run([&] { outcome = mpirun({words, words}); });
    std::vector<int> pids;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    auto hasBegun = [&] {
      std::error_code missing;
      for (const auto &entry : std::filesystem::directory_iterator(at(name), missing))
        if (entry.path().extension() == ".safetensors")
          return true;
      return false;
    };
    while ((pids.size() < 2 || !hasBegun()) && std::chrono::steady_clock::now() < limit) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      pids = processesWith(at(name));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
    const auto killed = std::chrono::steady_clock::now();
    if (pids.size() == 2)
      ::kill(pids[random() % 2], SIGKILL);
    run.join();
    ASSERT_EQ(pids.size(), 2u) << outcome.err;
    EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(10)) << outcome.err;
    EXPECT_NE(outcome.code, 0);

    int64_t last = 0;
    for (const auto &entry : std::filesystem::directory_iterator(at(name)))
      if (std::string file = entry.path().filename().string(); file.starts_with("checkpoint_"))
        last = std::max<int64_t>(last, std::stoll(file.substr(11)));
    ASSERT_GT(last, 0);
    const auto end = static_cast<int>(last) + 3;
    Outcome resumed = moerun(trainPlan(planFor(4), name, end, {"--ranks", "4", "--resume"}));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    const std::string one = "one" + std::to_string(round);
    ASSERT_EQ(moerun(train(one, end)).code, 0);
    char file[64];
    std::snprintf(file, sizeof(file), "/checkpoint_%08d.safetensors", end);
    EXPECT_EQ(readFile(at(name) + file), readFile(at(one) + file));
  }
}
#endif
