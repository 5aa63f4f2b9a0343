//===- CheckpointTest.cpp - Saving, loading, and what can go wrong -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/AtomicFile.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"

#include <csignal>
#include <gtest/gtest.h>
#include <sys/resource.h>

using namespace moe;
using test::FakeSession;
using test::TemporaryFolder;

static const CheckpointInfo info = {.updates = 12,
                                    .samples = 345,
                                    .windows = 100,
                                    .sampleLength = 4,
                                    .seed = ~uint64_t(0),
                                    .routingGroups = 1,
                                    .modelDigest = 0x1234};

static CheckpointInfo after(int64_t updates) {
  CheckpointInfo result = info;
  result.updates = updates;
  return result;
}

/// Lets files grow to `bytes` only, as a full disk would.
class FileLimit {
public:
  explicit FileLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit limit = before;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() { ::setrlimit(RLIMIT_FSIZE, &before); }

private:
  rlimit before;
};

static size_t filesIn(const std::filesystem::path &folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto &entry : std::filesystem::directory_iterator(folder))
    ++count;
  return count;
}

TEST(AtomicFile, ReplacesOnlyOnCommit) {
  TemporaryFolder folder;
  auto path = folder.write("file", "old");
  const std::string text = "new";
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file && file->write(std::as_bytes(std::span(text))));
    EXPECT_EQ(test::readFile(path), "old");
  }
  EXPECT_EQ(filesIn(folder.path()), 1u); // the temporary is gone
  auto file = AtomicFile::create(path);
  ASSERT_TRUE(file && file->write(std::as_bytes(std::span(text))) && file->commit());
  EXPECT_EQ(test::readFile(path), "new");
  EXPECT_FALSE(AtomicFile::create(folder.path() / "none" / "file"));
  EXPECT_FALSE(AtomicFile::create(folder.path()));
}

TEST(Checkpoint, RestoresEveryCheckpointedTensor) {
  TemporaryFolder folder;
  FakeSession session({});
  auto path = folder.path() / "c.safetensors";
  int64_t updates = 12;
  for (int i = 0; i < 260; ++i) {
    session.values("weight")[i] = float(i);
    session.values("weight.exp_avg")[i] = float(-i);
    session.values("weight.grad")[i] = 5;
  }
  std::memcpy(session.bytes(session.plan().state(3).slice()).data(), &updates, 8);
  ASSERT_TRUE(saveCheckpoint(path, session, info));

  FakeSession other({.batch = 7, .length = 9}); // another layout of the same model
  other.values("weight.grad")[3] = 1;
  auto file = CheckpointFile::open(path);
  ASSERT_TRUE(file) << file.error().str();
  EXPECT_EQ(file->info().updates, 12);
  EXPECT_EQ(file->info().samples, 345);
  EXPECT_EQ(file->info().windows, 100);
  EXPECT_EQ(file->info().sampleLength, 4);
  EXPECT_EQ(file->info().seed, ~uint64_t(0));
  EXPECT_EQ(file->info().routingGroups, 1);
  EXPECT_EQ(file->info().modelDigest, 0x1234u);
  ASSERT_TRUE(file->restore(other));
  EXPECT_EQ(other.values("weight")[259], 259);
  EXPECT_EQ(other.values("weight.exp_avg")[7], -7);
  EXPECT_EQ(other.values("weight.grad")[3], 1); // not part of a checkpoint
  EXPECT_EQ(std::memcmp(other.bytes(other.plan().state(3).slice()).data(), &updates, 8), 0);

  // Equal states give equal files: nothing of the clock or the layout is in them.
  auto again = folder.path() / "d.safetensors";
  ASSERT_TRUE(saveCheckpoint(again, other, info));
  EXPECT_EQ(test::readFile(path), test::readFile(again));
}

TEST(Checkpoint, IsRefusedBeforeTheStateIsTouched) {
  TemporaryFolder folder;
  FakeSession session({});
  auto path = folder.path() / "c.safetensors";
  ASSERT_TRUE(saveCheckpoint(path, session, info));
  auto refused = [&](FakeSession &target, std::initializer_list<const char *> texts) {
    target.values(target.plan().state(0).name())[0] = 77;
    auto status = CheckpointFile::open(path)->restore(target);
    ASSERT_FALSE(status);
    for (const char *text : texts)
      EXPECT_NE(status.error().str().find(text), std::string::npos) << status.error().str();
    EXPECT_EQ(target.values(target.plan().state(0).name())[0], 77);
  };
  FakeSession renamed({.parameter = "embedding"});
  refused(renamed, {"missing embedding: F32 [260]", "missing embedding.exp_avg", "unexpected weight: F32 [260]",
                    "unexpected weight.exp_avg"});
  FakeSession larger({.vocabulary = 261});
  refused(larger, {"mis-shaped weight: F32 [260], expected F32 [261]"});
  FakeSession groups({});
  groups.mutablePlan().mutable_header()->set_routing_groups(8);
  refused(groups, {"routing groups", "1 groups, the plan has 8"});
  FakeSession digest({});
  digest.mutablePlan().mutable_header()->mutable_model()->set_digest(9);
  refused(digest, {"another model", "0000000000001234"});
}

TEST(Checkpoint, DamageIsRecognised) {
  TemporaryFolder folder;
  FakeSession session({.vocabulary = 16});
  auto path = folder.path() / "c.safetensors";
  ASSERT_TRUE(saveCheckpoint(path, session, info));
  const std::string whole = test::readFile(path);
  for (size_t length = 0; length < whole.size(); length += 7)
    EXPECT_FALSE(CheckpointFile::open(folder.write("t.safetensors", whole.substr(0, length)))) << length;
  for (size_t i = 0; i < whole.size(); i += 3) {
    std::string altered = whole;
    altered[i] = char(altered[i] ^ 1);
    EXPECT_FALSE(CheckpointFile::open(folder.write("t.safetensors", altered))) << i;
  }
  // A file of parameters is no checkpoint.
  ASSERT_TRUE(writeSafetensors(path, {}, {}));
  auto file = CheckpointFile::open(path);
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().str().find("--init-state"), std::string::npos);
}

TEST(CheckpointFolder, KeepsTheNewest) {
  TemporaryFolder base;
  auto path = base.path() / "deep" / "folder";
  FakeSession session({.vocabulary = 16});
  auto folder = CheckpointFolder::open(path);
  ASSERT_TRUE(folder);
  EXPECT_EQ(folder->fileOf(123).filename(), "checkpoint_00000123.safetensors");
  base.write("deep/folder/other.safetensors", "mine");
  base.write("deep/folder/checkpoint_x.safetensors", "mine");
  for (int64_t updates : {8, 9, 10, 11})
    ASSERT_TRUE(folder->save(session, after(updates), 2));
  auto files = folder->list();
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].filename(), "checkpoint_00000011.safetensors");
  EXPECT_EQ(files[1].filename(), "checkpoint_00000010.safetensors");
  EXPECT_EQ(filesIn(path), 4u); // foreign files stay
  // A damaged newer file that a resume passed over must not push out the one just saved.
  base.write("deep/folder/checkpoint_00000099.safetensors", "damaged");
  ASSERT_TRUE(folder->save(session, after(12), 1));
  EXPECT_TRUE(std::filesystem::exists(folder->fileOf(12)));
  EXPECT_FALSE(std::filesystem::exists(folder->fileOf(11)));
}

TEST(CheckpointFolder, RemovesWhatAKilledSaveLeft) {
  TemporaryFolder base;
  base.write(".checkpoint_00000004.safetensors.tmp", "half a file");
  base.write(".other.tmp", "mine");
  ASSERT_TRUE(CheckpointFolder::open(base.path()));
  EXPECT_FALSE(std::filesystem::exists(base.path() / ".checkpoint_00000004.safetensors.tmp"));
  EXPECT_TRUE(std::filesystem::exists(base.path() / ".other.tmp"));
  EXPECT_EQ(AtomicFile::temporaryName("a/checkpoint_00000004.safetensors"),
            "a/.checkpoint_00000004.safetensors.tmp"); // what is removed is what is written
}

TEST(CheckpointFolder, IsForOneRunAtATime) {
  TemporaryFolder base;
  auto first = CheckpointFolder::open(base.path());
  ASSERT_TRUE(first);
  auto second = CheckpointFolder::open(base.path());
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().what.find("another run"), std::string::npos);
  EXPECT_FALSE(CheckpointFolder::open(base.write("file", "")));
}

TEST(CheckpointFolder, ResumesFromTheNewestUndamaged) {
  TemporaryFolder base;
  FakeSession session({.vocabulary = 16});
  std::vector<std::string> notices;
  auto newest = [&] {
    notices.clear();
    return CheckpointFolder::newest(base.path(), [&](const std::string &text) { notices.push_back(text); });
  };
  auto none = newest();
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
  {
    auto folder = CheckpointFolder::open(base.path());
    for (int64_t updates : {2, 10, 9})
      ASSERT_TRUE(folder->save(session, after(updates), 0));
  }
  EXPECT_EQ((**newest()).info().updates, 10);
  EXPECT_TRUE(notices.empty());
  base.write("checkpoint_00000010.safetensors",
             test::readFile(base.path() / "checkpoint_00000010.safetensors").substr(0, 500));
  EXPECT_EQ((**newest()).info().updates, 9);
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_NE(notices[0].find("checkpoint_00000010"), std::string::npos);
  base.write("checkpoint_00000009.safetensors", "");
  base.write("checkpoint_00000002.safetensors", "{}");
  EXPECT_FALSE(newest()); // never starts anew over a run that cannot be read
  EXPECT_EQ(notices.size(), 3u);
}

// A save that runs out of space says so, leaves nothing behind and keeps the older checkpoint, also one of the same
// name.
TEST(CheckpointFolder, SurvivesAFullDisk) {
  TemporaryFolder base;
  FakeSession session({.vocabulary = 5000});
  auto folder = CheckpointFolder::open(base.path());
  ASSERT_TRUE(folder->save(session, after(1), 1));
  const std::string before = test::readFile(folder->fileOf(1));
  {
    FileLimit limit(8192);
    for (int64_t updates : {1, 2}) {
      auto status = folder->save(session, after(updates), 1);
      ASSERT_FALSE(status);
      EXPECT_NE(status.error().what.find("cannot save the checkpoint"), std::string::npos);
      EXPECT_EQ(status.error().code, ExitCode::User);
    }
  }
  EXPECT_EQ(filesIn(base.path()), 1u);
  EXPECT_EQ(test::readFile(folder->fileOf(1)), before);
}
