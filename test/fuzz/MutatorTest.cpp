//===- MutatorTest.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Mutators must change something, and leave what they promise to leave: else a fuzzer spends its time in front of a
// digest.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/plan/PlanFile.h"
#include "test/fuzz/CheckpointModel.h"
#include "test/fuzz/Mutators.h"
#include "test/fuzz/Target.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <gtest/gtest.h>
#include <set>

using namespace moe;

namespace {

TEST(PlanMutator, KeepsFramingAndDigests) {
  const test::TemporaryFolder &folder = fuzz::folder();
  PlanFile whole = test::everyKindOfRecord();
  ASSERT_TRUE(whole.write(folder.path() / "plan.moe"));
  const std::string before = test::readFile(folder.path() / "plan.moe");
  std::set<std::string> different;
  for (unsigned seed = 0; seed < 200; ++seed) {
    fuzz::Random random(seed);
    std::optional<std::string> after = fuzz::mutatePlan(before, random);
    ASSERT_TRUE(after) << seed;
    Expected<PlanFile> read = PlanFile::read(folder.write("after.moe", *after));
    ASSERT_TRUE(read) << seed << ": " << read.error().str();
    if (*after != before)
      different.insert(*after);
  }
  EXPECT_GT(different.size(), 150u);
}

TEST(PlanMutator, RefusesWhatIsNoPlan) {
  fuzz::Random random(1);
  EXPECT_FALSE(fuzz::mutatePlan("no plan", random));
}

TEST(CheckpointMutator, RepairsLengthAndDigest) {
  const test::TemporaryFolder &folder = fuzz::folder();
  test::FakeSession session(fuzz::checkpointModel());
  ASSERT_TRUE(saveCheckpoint(folder.path() / "whole", session, {}));
  const std::string before = test::readFile(folder.path() / "whole");
  // As if libFuzzer had changed the last character: of the data, or the space after the header.
  auto change = [](std::string_view bytes, size_t limit) {
    std::string changed(bytes);
    if (changed.size() < limit)
      changed += ' ';
    return changed;
  };
  int readable = 0, matching = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    fuzz::Random random(seed);
    const std::string after = fuzz::mutateCheckpoint(before, 4096, change, random);
    Expected<SafetensorsFile> file = SafetensorsFile::open(folder.write("after", after));
    if (!file)
      continue;
    ++readable;
    matching += file->digestMatches();
  }
  // A longer header is fine, longer data are not; one in eight digests is left wrong.
  EXPECT_GT(readable, 80);
  EXPECT_GT(matching, readable * 3 / 4);
  EXPECT_LT(matching, readable);
}

TEST(MessageMutator, ReachesEveryKindOfField) {
  const plan::Plan before = test::everyKindOfRecord().plan;
  bool arena = false, buffer = false, step = false, work = false, header = false;
  for (unsigned seed = 0; seed < 2000; ++seed) {
    plan::Plan after = before;
    fuzz::Random random(seed);
    fuzz::mutateField(after, random);
    auto differs = [](const google::protobuf::Message &a, const google::protobuf::Message &b) {
      return a.SerializeAsString() != b.SerializeAsString();
    };
    arena |= after.arenas_size() > 0 && differs(after.arenas(0), before.arenas(0));
    buffer |= after.buffers_size() != before.buffers_size();
    header |= differs(after.header(), before.header());
    for (int p = 0; p < std::min(after.programs_size(), before.programs_size()); ++p) {
      const plan::Program &one = after.programs(p), &other = before.programs(p);
      step |= one.steps_size() != other.steps_size();
      for (int s = 0; s < one.steps_size() && one.steps_size() == other.steps_size(); ++s)
        work |=
            one.steps(s).has_gemm() && other.steps(s).has_gemm() && differs(one.steps(s).gemm(), other.steps(s).gemm());
    }
  }
  EXPECT_TRUE(arena && buffer && step && work && header);
}

} // namespace
