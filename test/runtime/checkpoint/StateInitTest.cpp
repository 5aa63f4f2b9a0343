//===- StateInitTest.cpp - First values --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/StateInit.h"
#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/ParameterFile.h"
#include "runtime/checkpoint/Safetensors.h"
#include "test/runtime/FakeSession.h"
#include "test/runtime/TestFiles.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace moe;
using test::FakeSession;
using test::TemporaryFolder;

// Computed by an independent Python implementation of the formulas in StateInit.h.
TEST(StateInit, DrawsAreTheDocumentedFunction) {
  std::vector<float> values(4096);
  auto bytes = std::as_writable_bytes(std::span(values));
  drawUniform(bytes, plan::F32, 42, "decoder.weight", -1, 3);
  EXPECT_EQ(values[0], -0.8840906023979187f);
  EXPECT_EQ(values[1], 0.8084557056427002f);
  EXPECT_EQ(values[4095], -0.7016924023628235f);
  drawNormal(bytes, plan::F32, 42, "decoder.weight", 0.5, 2);
  EXPECT_FLOAT_EQ(values[0], 5.687090873718262f); // one ulp of room: libm's logarithm and cosine may differ
  EXPECT_FLOAT_EQ(values[1], 0.8411381840705872f);
  EXPECT_FLOAT_EQ(values[4095], -4.0504679679870605f);
}

// Moments of 2^16 draws: five standard errors of room. A pair of elements sharing a draw shows in the correlation.
TEST(StateInit, NormalDrawsAreNormal) {
  const size_t count = 1 << 16;
  std::vector<float> values(count);
  drawNormal(std::as_writable_bytes(std::span(values)), plan::F32, 1, "w", 0, 1);
  double sum = 0, square = 0, fourth = 0, neighbour = 0;
  for (size_t i = 0; i < count; ++i) {
    double x = values[i];
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
    neighbour += i ? x * double(values[i - 1]) : 0;
  }
  const double error = 5 / std::sqrt(double(count));
  EXPECT_NEAR(sum / count, 0, error);
  EXPECT_NEAR(square / count, 1, error * std::sqrt(2));
  EXPECT_NEAR(fourth / count, 3, error * std::sqrt(96));
  EXPECT_NEAR(neighbour / count, 0, error);
}

TEST(StateInit, DrawsDependOnSeedAndNameAndStayInRange) {
  std::vector<float> a(1000), b(1000), c(1000);
  drawUniform(std::as_writable_bytes(std::span(a)), plan::F32, 1, "w", -2, 5);
  drawUniform(std::as_writable_bytes(std::span(b)), plan::F32, 2, "w", -2, 5);
  drawUniform(std::as_writable_bytes(std::span(c)), plan::F32, 1, "v", -2, 5);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_GE(a[i], -2);
    EXPECT_LE(a[i], 5);
    EXPECT_NE(a[i], b[i]);
    EXPECT_NE(a[i], c[i]);
  }
}

static plan::StateTensor &weight(FakeSession &session) {
  return *session.mutablePlan().mutable_state(0);
}

static Status init(FakeSession &session, StateSources sources = {}) {
  return initialiseState(session, sources);
}

TEST(StateInit, ConstantInlineAndZeroRows) {
  FakeSession session({.vocabulary = 6});
  weight(session).mutable_initial()->mutable_constant()->set_value(2.5);
  weight(session).mutable_initial()->add_zero_rows(4);
  session.values("weight.exp_avg")[0] = 9;
  ASSERT_TRUE(init(session));
  auto values = session.values("weight");
  EXPECT_EQ(std::vector<float>(values.begin(), values.end()), (std::vector<float>{2.5, 2.5, 2.5, 2.5, 0, 2.5}));
  EXPECT_EQ(session.values("weight.exp_avg")[0], 0); // no first value given: zero

  const float raw[6] = {1, 2, 3, 4, 5, 6};
  weight(session).mutable_initial()->mutable_data()->set_data(raw, sizeof(raw));
  ASSERT_TRUE(init(session));
  EXPECT_EQ(values[5], 6);
  EXPECT_EQ(values[4], 0);
  weight(session).mutable_initial()->mutable_data()->set_data(raw, 8);
  EXPECT_FALSE(init(session));
  weight(session).mutable_initial()->mutable_constant();
  weight(session).mutable_initial()->add_zero_rows(6);
  EXPECT_FALSE(init(session));
  weight(session).clear_initial();
  auto status = init(session);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().where, "weight");
}

TEST(StateInit, ReadsTheModelAndItsExternalData) {
  TemporaryFolder folder;
  const float raw[6] = {1, 2, 3, 4, 5, 6};
  const std::string data(reinterpret_cast<const char *>(raw), sizeof(raw));
  auto onnx = folder.write("model.onnx", "head" + data);
  folder.write("model.data", "external" + data.substr(0, 20) + data.substr(0, 4));
  FakeSession session({.vocabulary = 6});
  plan::ModelFile &model = *session.mutablePlan().mutable_header()->mutable_model();
  Digest digest;
  digest.add("head" + data);
  model.set_path(onnx.string());
  model.set_bytes(28);
  model.set_digest(digest.value());
  plan::Initial::File &file = *weight(session).mutable_initial()->mutable_file();
  file.set_offset(4);
  file.set_bytes(24);
  file.set_stored(plan::F32);
  ASSERT_TRUE(init(session));
  EXPECT_EQ(session.values("weight")[5], 6);
  file.set_location("model.data");
  file.set_offset(8);
  ASSERT_TRUE(init(session));
  EXPECT_EQ(session.values("weight")[4], 5);
  EXPECT_EQ(session.values("weight")[5], 1);

  auto fails = [&](const char *text, StateSources sources = {}) {
    auto status = init(session, sources);
    ASSERT_FALSE(status) << text;
    EXPECT_NE(status.error().str().find(text), std::string::npos) << status.error().str();
  };
  file.set_offset(9);
  fails("beyond the end");
  file.set_offset(~uint64_t(0) - 3);
  fails("beyond the end");
  file.set_offset(8);
  file.set_bytes(20);
  fails("wrong size");
  file.set_bytes(24);
  for (const char *location : {"../model.data", "/etc/passwd"}) {
    file.set_location(location);
    fails("outside the folder");
  }
  file.set_location("gone.data");
  fails("gone.data");
  // Another file under the name of the model; then the model elsewhere, found by --weights.
  file.set_location("");
  file.set_offset(4);
  std::filesystem::create_directory(folder.path() / "new");
  std::filesystem::rename(onnx, folder.path() / "new" / "model.onnx");
  fails("--weights");
  folder.write("model.onnx", "Head" + data);
  fails("not the one that the plan was compiled from");
  folder.write("model.onnx", "Head");
  fails("it has 4 bytes");
  EXPECT_TRUE(init(session, {.weights = folder.path() / "new" / "model.onnx"}));
}

TEST(ParameterFile, SetsWhatFitsAndListsAllThatDoesNot) {
  TemporaryFolder folder;
  FakeSession session({.vocabulary = 3});
  std::vector<float> values = {1, 2, 3};
  auto bytes = std::as_bytes(std::span(values));
  auto path = folder.path() / "p.safetensors";
  ASSERT_TRUE(writeSafetensors(path, {{"weight", "F32", {3}, bytes}}, {}));
  // The model's own first values are not needed then.
  weight(session).mutable_initial()->mutable_file()->set_location("gone");
  ASSERT_TRUE(init(session, {.parameters = path}));
  EXPECT_EQ(session.values("weight")[2], 3);

  plan::StateTensor &other = *session.mutablePlan().add_state();
  other = weight(session);
  other.set_name("bias");
  ASSERT_TRUE(writeSafetensors(path, {{"weight", "F32", {1, 3}, bytes}, {"stray", "F32", {3}, bytes}}, {}));
  session.values("weight")[2] = 8;
  auto status = loadParameters(session, path);
  ASSERT_FALSE(status);
  for (const char *text :
       {"missing bias: F32 [3]", "unexpected stray: F32 [3]", "mis-shaped weight: F32 [1, 3], expected F32 [3]"})
    EXPECT_NE(status.error().why.find(text), std::string::npos) << status.error().why;
  EXPECT_EQ(session.values("weight")[2], 8);
}

TEST(ParameterFile, SavesParametersOnly) {
  TemporaryFolder folder;
  FakeSession session({.vocabulary = 3});
  session.values("weight")[1] = 4;
  auto path = folder.path() / "p.safetensors";
  ASSERT_TRUE(saveParameters(session, path));
  auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file);
  ASSERT_EQ(file->tensors().size(), 1u);
  float value;
  std::memcpy(&value, file->bytes(*file->find("weight")).data() + 4, 4);
  EXPECT_EQ(value, 4);
}
