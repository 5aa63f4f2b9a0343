//===- LaboratoryTest.cpp - Evaluation and the laboratory --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Laboratory.h"
#include "runtime/checkpoint/StateInit.h"
#include "runtime/data/Windows.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"
#include "tools/moerun/Evaluator.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <numbers>
#include <sstream>

using namespace moe;
using test::FakeSession;
using test::TemporaryFolder;

static std::shared_ptr<const Windows> textWindows(const TemporaryFolder &base, const std::string &text,
                                                  const plan::Plan &plan) {
  auto tokens = std::make_shared<const TokenFile>(std::move(*TokenFile::open(base.write("text", text), 260)));
  return *Windows::create(tokens, 0, tokens->size(), *StreamColumns::create(*ModelInputs::describe(plan)));
}

// Ten windows in batches of four: padding fills the third batch, and no label is counted twice or left out.
TEST(Evaluator, CountsEveryLabelOnce) {
  TemporaryFolder base;
  std::string text;
  for (int i = 0; i < 41; ++i)
    text += char(i * 37 % 256);
  FakeSession session({.batch = 4});
  auto windows = textWindows(base, text, session.plan());
  ASSERT_EQ(windows->count(), 10);
  ASSERT_TRUE(initialiseState(session, {.seed = 1}));
  double sum = 0, even = 0;
  for (int i = 1; i <= 40; ++i) {
    int label = (unsigned char)text[size_t(i)] + 4;
    sum += double(session.values("weight")[size_t(label)]) + 2;
    even += label % 2 == 0;
  }
  InputBatch batch(session, *ModelInputs::describe(session.plan()));
  Evaluator evaluator = *Evaluator::create(session, batch);
  Watchdog watchdog(0);
  for (int repeat = 0; repeat < 2; ++repeat) { // the sums of the first pass must not stay
    auto record = evaluator.run(*windows, "valid_", watchdog, 0);
    ASSERT_TRUE(record);
    EXPECT_EQ((*record)["valid_ntokens"], 40);
    EXPECT_NEAR((*record)["valid_loss"].get<double>(), sum / 40, 1e-5);
    EXPECT_NEAR((*record)["valid_bits_per_byte"].get<double>(), sum / 40 / std::numbers::ln2, 1e-5);
    EXPECT_NEAR((*record)["valid_hits"].get<double>(), even / 40, 1e-6);
    EXPECT_FALSE(record->contains("valid_samples_left_out"));
  }
}

TEST(Evaluator, ReportsWhatItLeavesOut) {
  TemporaryFolder base;
  FakeSession session({.batch = 4, .padId = -1});
  auto windows = textWindows(base, std::string(41, 'x'), session.plan());
  InputBatch batch(session, *ModelInputs::describe(session.plan()));
  Evaluator evaluator = *Evaluator::create(session, batch);
  Watchdog watchdog(0);
  auto record = evaluator.run(*windows, "", watchdog, 0);
  ASSERT_TRUE(record);
  EXPECT_EQ((*record)["ntokens"], 32);
  EXPECT_EQ((*record)["samples_left_out"], 2);
  auto few = textWindows(base, std::string(10, 'x'), session.plan());
  EXPECT_FALSE(evaluator.run(*few, "", watchdog, 0));
}

namespace {
struct Laboratory {
  explicit Laboratory(bool remote = false)
      : session({.batch = 2, .length = 3, .accumulate = 2, .remote = remote}),
        out(::open((base.path() / "log").c_str(), O_WRONLY | O_CREAT, 0600)), log(TrainLog::Format::Json, out, out) {
    EXPECT_TRUE(initialiseState(session, {.seed = 1}));
  }
  ~Laboratory() { ::close(out); }

  /// Writes batches 0 to count-1 of [2, 3] tokens: 10 * batch + position (+ 1 for the labels).
  std::filesystem::path inputs(int64_t count, std::string_view type = "I64") {
    std::vector<int64_t> ids, labels;
    for (int64_t batch = 0; batch < count; ++batch)
      for (int64_t i = 0; i < 6; ++i) {
        ids.push_back(10 * batch + i);
        labels.push_back(10 * batch + i + 1);
      }
    auto path = base.path() / "in.safetensors";
    EXPECT_TRUE(writeSafetensors(path,
                                 {{"input_ids", type, {count, 2, 3}, std::as_bytes(std::span(ids))},
                                  {"labels", type, {count, 2, 3}, std::as_bytes(std::span(labels))}},
                                 {}));
    return path;
  }
  Status run(const LaboratoryOptions &options, const std::filesystem::path &path) {
    std::string notice;
    auto batches = BatchFile::open(path, session, notice);
    if (!batches)
      return tl::unexpected(batches.error());
    return runLaboratory(session, *batches, log, options);
  }

  TemporaryFolder base;
  FakeSession session;
  int out;
  TrainLog log;
};
} // namespace

// Batches 2i and 2i + 1 feed update i; one JSON line per update, numbered from 0.
TEST(Laboratory, FeedsTheBatchesInOrder) {
  Laboratory lab;
  ASSERT_TRUE(lab.run({.steps = 2}, lab.inputs(5)));
  ASSERT_EQ(lab.session.inputsSeen.size(), 4u);
  for (int64_t batch = 0; batch < 4; ++batch)
    EXPECT_EQ(lab.session.inputsSeen[size_t(batch)][5], 10 * batch + 5);
  std::istringstream text(test::readFile(lab.base.path() / "log"));
  int count = 0;
  for (std::string line; std::getline(text, line); ++count) {
    auto record = nlohmann::json::parse(line);
    EXPECT_EQ(record["update"], count);
    for (const char *key : {"loss", "gnorm", "lr"})
      EXPECT_TRUE(record[key].is_number()) << key;
  }
  EXPECT_EQ(count, 2);
}

static std::vector<float> tensor(const std::filesystem::path &path, const std::string &name) {
  auto file = SafetensorsFile::open(path);
  EXPECT_TRUE(file);
  std::vector<float> values;
  if (const TensorEntry *entry = file ? file->find(name) : nullptr) {
    values.resize(file->bytes(*entry).size() / 4);
    std::memcpy(values.data(), file->bytes(*entry).data(), values.size() * 4);
  }
  return values;
}

// Outputs and gradients are of the first weights; the gradient is the mean over the 12 labels of both micro-batches.
class SavesAll : public testing::TestWithParam<bool> {};

TEST_P(SavesAll, OutputsGradientsAndState) {
  Laboratory lab(GetParam());
  std::vector<double> expected(260);
  auto w = lab.session.values("weight");
  const std::vector<float> first(w.begin(), w.end());
  for (int64_t batch = 0; batch < 2; ++batch)
    for (int64_t i = 0; i < 6; ++i) {
      size_t id = size_t(10 * batch + i), label = id + 1;
      double error = label == 1 ? 0 : double(w[label]) - double(w[id]) / 2 - 1; // label 1 is padding
      expected[label] += error / 11;
      expected[id] -= error / 22;
    }
  auto path = [&](const char *name) { return lab.base.path() / name; };
  ASSERT_TRUE(lab.run({.steps = 2, .outputs = path("o"), .gradients = path("g"), .state = path("s")}, lab.inputs(4)));
  auto gradient = tensor(path("g"), "weight");
  ASSERT_EQ(gradient.size(), 260u);
  for (size_t i = 0; i < 260; ++i)
    EXPECT_NEAR(gradient[i], expected[i], 1e-6);
  auto logits = tensor(path("o"), "logits");
  ASSERT_EQ(logits.size(), 6u);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(logits[i], first[i]);
  auto state = tensor(path("s"), "weight");
  ASSERT_EQ(state.size(), 260u);
  EXPECT_TRUE(std::ranges::equal(state, w));
  EXPECT_NE(state[5], first[5]);
}

INSTANTIATE_TEST_SUITE_P(Laboratory, SavesAll, testing::Values(false, true),
                         [](const auto &remote) { return remote.param ? "FromADevice" : "FromTheHost"; });

TEST(Laboratory, RunsNoUpdateWithoutSteps) {
  Laboratory lab;
  auto path = lab.base.path() / "s";
  ASSERT_TRUE(lab.run({.steps = 0, .state = path}, lab.inputs(1)));
  EXPECT_TRUE(lab.session.programsRun.empty());
  EXPECT_EQ(tensor(path, "weight").size(), 260u);
}

TEST(Laboratory, RefusesUnfitInputs) {
  Laboratory lab;
  auto refused = [&](const Status &status, const char *text) {
    ASSERT_FALSE(status) << text;
    EXPECT_NE(status.error().str().find(text), std::string::npos) << status.error().str();
  };
  refused(lab.run({.steps = 3}, lab.inputs(5)), "need 6, the file holds 5");
  refused(lab.run({.steps = INT64_MAX}, lab.inputs(5)), "too few batches");
  refused(lab.run({.steps = 2}, lab.inputs(4, "F64")), "wrong element type");
  refused(lab.run({.steps = 14}, lab.inputs(28)), "input input_ids, batch 26, element 0");
  refused(lab.run({.steps = 0, .gradients = lab.base.path() / "g"}, lab.inputs(4)), "at least one update");
  std::vector<int64_t> ids(6);
  auto path = lab.base.path() / "bad.safetensors";
  ASSERT_TRUE(writeSafetensors(path, {{"input_ids", "I64", {1, 3, 2}, std::as_bytes(std::span(ids))}}, {}));
  auto status = lab.run({.steps = 1}, path);
  refused(status, "missing labels: [batches] + [2, 3]");
  refused(status, "mis-shaped input_ids: [1, 3, 2], expected [batches] + [2, 3]");
  ids[4] = -5;
  ASSERT_TRUE(writeSafetensors(path,
                               {{"input_ids", "I64", {1, 2, 3}, std::as_bytes(std::span(ids))},
                                {"labels", "I64", {1, 2, 3}, std::as_bytes(std::span(ids))}},
                               {}));
  refused(lab.run({.steps = 0, .outputs = lab.base.path() / "o"}, path), "the token is -5");
}

TEST(Laboratory, StopsAtALossThatIsNotFinite) {
  Laboratory lab;
  lab.session.poisonLoss = INFINITY;
  auto status = lab.run({.steps = 2}, lab.inputs(4));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().what, "loss is not finite in update 0");
}
