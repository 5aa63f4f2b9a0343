//===- TrainLoopTest.cpp - Training, interrupted and not ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/TrainLoop.h"
#include "runtime/checkpoint/StateInit.h"
#include "runtime/data/Windows.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"

#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

using namespace moe;
using test::FakeOptions;
using test::FakeSession;
using test::TemporaryFolder;

namespace {
/// One process's worth of training: session, data, folder, loop.
class TrainRun {
public:
  TrainRun(const TemporaryFolder &base, const std::string &folderName, TrainOptions options,
           const FakeOptions &fake = {.accumulate = 2})
      : session(fake), out(::open((base.path() / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600)),
        log(TrainLog::Format::Json, out, out), folder(*CheckpointFolder::open(base.path() / folderName)) {
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += char('a' + i * i % 23);
    auto tokens = std::make_shared<const TokenFile>(std::move(*TokenFile::open(base.write("text", text), 260)));
    const ModelInputs inputs = *ModelInputs::describe(session.plan());
    DataSplit split = *splitTokens(tokens, 0.1, *StreamColumns::create(inputs));
    options.seed = 3;
    EXPECT_TRUE(initialiseState(session, {.seed = 5}));
    loop.emplace(*TrainLoop::create(session, inputs, split, folder, log, options,
                                    [this] { return stopAfter >= 0 && loop->updates() >= stopAfter; }));
  }
  ~TrainRun() { ::close(out); }

  Status resume() {
    auto file = CheckpointFolder::newest(folder.path(), [](const std::string &) {});
    if (!file || !*file)
      return error("no checkpoint");
    if (Status status = loop->resume((*file)->info(), true); !status)
      return status;
    return (*file)->restore(session);
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto &path : folder.list())
      names.push_back(path.filename().string().substr(11, 8));
    return names;
  }

  FakeSession session;
  int out;
  TrainLog log;
  CheckpointFolder folder;
  std::optional<TrainLoop> loop;
  int64_t stopAfter = -1;
};

std::vector<nlohmann::json> linesOf(const TemporaryFolder &base) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(test::readFile(base.path() / "log"));
  for (std::string line; std::getline(text, line);)
    lines.push_back(nlohmann::json::parse(line));
  return lines;
}
} // namespace

static std::string checkpoint(const TemporaryFolder &base, const std::string &folder, int64_t updates) {
  char name[64];
  std::snprintf(name, sizeof(name), "checkpoint_%08lld.safetensors", static_cast<long long>(updates));
  return test::readFile(base.path() / folder / name);
}

// A run that is cut after any update and resumed writes the same bytes as one that is not: every piece of state the
// loop forgets to save (data position, counter, moments) shows here. 90 windows, 4 per update: the data wraps after 22.
TEST(TrainLoop, ResumesBitForBit) {
  TemporaryFolder base;
  {
    TrainRun whole(base, "whole", {.maxUpdate = 30});
    ASSERT_TRUE(whole.loop->run());
  }
  const std::string expected = checkpoint(base, "whole", 30);
  ASSERT_FALSE(expected.empty());
  for (int64_t cut : {1, 7, 22, 23, 29}) {
    std::string name = "cut" + std::to_string(cut);
    {
      TrainRun first(base, name, {.maxUpdate = 30});
      first.stopAfter = cut;
      ASSERT_TRUE(first.loop->run());
      EXPECT_EQ(first.loop->updates(), cut); // the running update is finished, no other begun
    }
    TrainRun second(base, name, {.maxUpdate = 30});
    ASSERT_TRUE(second.resume());
    ASSERT_TRUE(second.loop->run());
    EXPECT_EQ(second.loop->updates(), 30);
    EXPECT_TRUE(checkpoint(base, name, 30) == expected) << cut;
  }
}

// On a device with memory of its own, first values, checkpoints, resuming and metrics go through copies: a checkpoint
// written in pieces, a restore or a cleared metric that misses the device would end in another file.
TEST(TrainLoop, MemoryOfItsOwnChangesNothing) {
  TemporaryFolder base;
  TrainRun near(base, "near", {.maxUpdate = 12, .validateInterval = 5});
  ASSERT_TRUE(near.loop->run());
  {
    TrainRun first(base, "far", {.maxUpdate = 12, .validateInterval = 5}, {.accumulate = 2, .remote = true});
    first.stopAfter = 7;
    ASSERT_TRUE(first.loop->run());
  }
  TrainRun second(base, "far", {.maxUpdate = 12, .validateInterval = 5}, {.accumulate = 2, .remote = true});
  ASSERT_TRUE(second.resume());
  ASSERT_TRUE(second.loop->run());
  EXPECT_TRUE(checkpoint(base, "near", 12) == checkpoint(base, "far", 12));
}

// A killed process leaves at most a temporary file; the run then goes on from the last complete checkpoint.
TEST(TrainLoop, ResumesAfterAKilledSave) {
  TemporaryFolder base;
  {
    TrainRun whole(base, "whole", {.maxUpdate = 12});
    ASSERT_TRUE(whole.loop->run());
  }
  {
    TrainRun first(base, "killed", {.maxUpdate = 9, .saveInterval = 4});
    ASSERT_TRUE(first.loop->run());
    EXPECT_EQ(first.files(), (std::vector<std::string>{"00000009", "00000008", "00000004"}));
  }
  auto last = base.path() / "killed" / "checkpoint_00000009.safetensors";
  std::string half = test::readFile(last).substr(0, 700);
  std::filesystem::remove(last);
  base.write("killed/.checkpoint_00000009.safetensors.tmp", half);
  TrainRun second(base, "killed", {.maxUpdate = 12});
  ASSERT_TRUE(second.resume());
  EXPECT_EQ(second.loop->updates(), 8);
  ASSERT_TRUE(second.loop->run());
  EXPECT_TRUE(checkpoint(base, "killed", 12) == checkpoint(base, "whole", 12));
}

TEST(TrainLoop, SavesWhenAsked) {
  TemporaryFolder base;
  TrainRun run(base, "c", {.maxUpdate = 10, .saveInterval = 3, .keepLast = 3});
  ASSERT_TRUE(run.loop->run());
  EXPECT_EQ(run.files(), (std::vector<std::string>{"00000010", "00000009", "00000006"}));
}

// The order of samples belongs to the data: neither the batch size nor accumulation changes it.
TEST(TrainLoop, SampleOrderDoesNotDependOnTheBatch) {
  TemporaryFolder base;
  auto stream = [&](const char *name, const FakeOptions &options, int64_t updates) {
    TrainRun run(base, name, {.maxUpdate = updates}, options);
    EXPECT_TRUE(run.loop->run());
    std::vector<int64_t> tokens;
    for (const auto &batch : run.session.inputsSeen)
      tokens.insert(tokens.end(), batch.begin(), batch.end());
    return tokens;
  };
  auto small = stream("a", {.batch = 1, .accumulate = 1}, 24);
  EXPECT_EQ(small.size(), 24u * 4);
  EXPECT_EQ(small, stream("b", {.batch = 2, .accumulate = 3}, 4));
  EXPECT_EQ(small, stream("c", {.batch = 4, .accumulate = 1}, 6));
}

TEST(TrainLoop, RunsTheProgramsInOrder) {
  TemporaryFolder base;
  TrainRun run(base, "c", {.maxUpdate = 2, .validateInterval = 2});
  ASSERT_TRUE(run.loop->run());
  EXPECT_EQ(run.session.programsRun,
            (std::vector<std::string>{"micro_step", "micro_step", "update", "micro_step", "micro_step", "update",
                                      "eval", "eval", "eval", "eval", "eval"}));
}

// Never silently: the run ends, names the update, and what was saved before is still there and the bad state is not.
TEST(TrainLoop, StopsAtALossThatIsNotFinite) {
  TemporaryFolder base;
  TrainRun run(base, "c", {.maxUpdate = 10, .saveInterval = 2});
  run.session.onRun = [&](const std::string &program) {
    if (program == "update" && run.loop->updates() == 4)
      run.session.poisonLoss = NAN;
  };
  auto status = run.loop->run();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().what, "loss is not finite in update 5");
  EXPECT_EQ(status.error().code, ExitCode::User);
  EXPECT_EQ(run.files(), (std::vector<std::string>{"00000004", "00000002"}));
}

TEST(TrainLoop, AFullDiskEndsTheRunAndKeepsTheLastCheckpoint) {
  TemporaryFolder base;
  std::signal(SIGXFSZ, SIG_IGN);
  TrainRun run(base, "c", {.maxUpdate = 10, .saveInterval = 2, .keepLast = 1});
  rlimit before, limit;
  ::getrlimit(RLIMIT_FSIZE, &before);
  run.session.onRun = [&](const std::string &program) {
    limit = before;
    limit.rlim_cur = 1500;
    if (run.loop->updates() == 3)
      ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  auto status = run.loop->run();
  ::setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().what.find("cannot save the checkpoint"), std::string::npos);
  EXPECT_EQ(run.files(), std::vector<std::string>{"00000002"});
  EXPECT_TRUE(CheckpointFile::open(run.folder.fileOf(2)));
}

TEST(TrainLoop, RefusesOtherDataOnResume) {
  TemporaryFolder base;
  TrainRun run(base, "c", {.maxUpdate = 10});
  CheckpointInfo info{.updates = 4, .samples = 16, .windows = 89, .sampleLength = 4, .seed = 3};
  EXPECT_TRUE(run.loop->resume(info, true)) << "the run's own data";
  info.windows = 88;
  auto status = run.loop->resume(info, true);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().what.find("other training data"), std::string::npos);
  EXPECT_TRUE(run.loop->resume(info, false));
  info.windows = 89;
  info.seed = 4;
  EXPECT_FALSE(run.loop->resume(info, true));
  info.seed = 3;
  info.inOrder = true;
  status = run.loop->resume(info, true);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().remedy.find("give --in-order"), std::string::npos);
  EXPECT_TRUE(run.loop->resume(info, false));
}

// Validation must not change training, and its numbers are means over every held-out token.
TEST(TrainLoop, Validates) {
  TemporaryFolder base;
  TrainRun run(base, "c", {.maxUpdate = 4, .validateInterval = 2});
  ASSERT_TRUE(run.loop->run());
  TrainRun plain(base, "d", {.maxUpdate = 4});
  ASSERT_TRUE(plain.loop->run());
  EXPECT_TRUE(checkpoint(base, "c", 4) == checkpoint(base, "d", 4));
  std::vector<int64_t> validated;
  for (const auto &line : linesOf(base))
    if (line.contains("valid_loss"))
      validated.push_back(line["update"].get<int64_t>());
  EXPECT_EQ(validated, (std::vector<int64_t>{2, 4, 4})); // the plain run validates at its end
}

TEST(TrainLoop, LogsEveryMetric) {
  TemporaryFolder base;
  TrainRun run(base, "c", {.maxUpdate = 5, .logInterval = 2});
  ASSERT_TRUE(run.loop->run());
  std::vector<int64_t> updates;
  for (const auto &line : linesOf(base)) {
    if (!line.contains("loss"))
      continue;
    updates.push_back(line["update"].get<int64_t>());
    for (const char *key : {"epoch", "gnorm", "lr", "ntokens", "tokens_per_second"})
      EXPECT_TRUE(line.contains(key)) << key;
    EXPECT_TRUE(line["ntokens"].is_number_integer());
  }
  EXPECT_EQ(updates, (std::vector<int64_t>{1, 2, 4, 5}));
}
