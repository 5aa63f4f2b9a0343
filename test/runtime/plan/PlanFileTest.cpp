//===- PlanFileTest.cpp - Plan files: written, read, damaged ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/PlanFile.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <random>
#include <sys/resource.h>
#include <unistd.h>
#include <xxhash.h>

using namespace moe;
namespace fs = std::filesystem;

namespace {

class PlanFileTest : public testing::Test {
protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("moe-plan-test-" + std::to_string(::getpid()));
    fs::create_directories(folder);
    path = folder / "model.moe";
  }
  void TearDown() override { fs::remove_all(folder); }

  /// A plan with two images, the first not a multiple of the alignment, the second beyond one page.
  static PlanFile sample() {
    PlanFile file = test::everyKindOfRecord();
    file.plan.add_images()->set_format("elf");
    file.blobs = {std::string(1001, 'a'), std::string(5000, '\0')};
    file.blobs[1][4999] = 'b';
    return file;
  }

  std::string bytes() const {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  void setBytes(const std::string &data) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(data.data(), static_cast<std::streamsize>(data.size()));
  }

  /// What a read reports, "" if it succeeds.
  std::string failure() const {
    Expected<PlanFile> file = PlanFile::read(path);
    return file ? "" : file.error().str();
  }

  std::vector<std::string> filesInFolder() const {
    std::vector<std::string> names;
    for (const fs::directory_entry &entry : fs::directory_iterator(folder))
      names.push_back(entry.path().filename());
    return names;
  }

  /// Replaces the message in `data` and makes lengths and digest right: damage that no digest shows.
  static std::string withMessage(const plan::Plan &plan, const std::string &data) {
    uint64_t oldBytes = 0;
    std::memcpy(&oldBytes, data.data() + 16, 8);
    std::string blobs = data.substr((32 + oldBytes + 4095) / 4096 * 4096);
    std::string message = plan.SerializeAsString();
    uint64_t newBytes = message.size(), digest = XXH3_64bits(message.data(), message.size());
    std::string result = data.substr(0, 16);
    result.append(reinterpret_cast<const char *>(&newBytes), 8);
    result.append(reinterpret_cast<const char *>(&digest), 8);
    result += message;
    result.resize((result.size() + 4095) / 4096 * 4096);
    return result + blobs;
  }

  fs::path folder;
  fs::path path;
};

TEST_F(PlanFileTest, ReadsWhatItWrote) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  Expected<PlanFile> read = PlanFile::read(path);
  ASSERT_TRUE(read) << read.error().str();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(file.plan, read->plan));
  EXPECT_EQ(file.blobs, read->blobs);
  EXPECT_EQ(filesInFolder(), std::vector<std::string>{"model.moe"});
}

TEST_F(PlanFileTest, LayoutIsTheDocumentedOne) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  std::string data = bytes();
  EXPECT_EQ(data.substr(0, 8), std::string("MOEPLAN\0", 8));
  uint32_t version = 0;
  uint64_t length = 0, digest = 0;
  std::memcpy(&version, &data[8], 4);
  std::memcpy(&length, &data[16], 8);
  std::memcpy(&digest, &data[24], 8);
  EXPECT_EQ(version, 1u);
  EXPECT_EQ(digest, XXH3_64bits(&data[32], length));
  uint64_t section = (32 + length + 4095) / 4096 * 4096;
  EXPECT_EQ(file.plan.images(1).blob_offset(), 4096u);
  EXPECT_EQ(data.substr(section, 1001), file.blobs[0]);
  EXPECT_EQ(data.substr(section + 4096), file.blobs[1]);
}

TEST_F(PlanFileTest, WritesTheSameBytesTwice) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  std::string first = bytes();
  ASSERT_TRUE(file.write(path));
  EXPECT_EQ(first, bytes());
}

TEST_F(PlanFileTest, EveryTruncationIsReported) {
  ASSERT_TRUE(sample().write(path));
  std::string data = bytes();
  std::vector<size_t> sizes = {1, 31, 32, data.size() - 1};
  for (size_t size = 0; size < data.size(); size += 97)
    sizes.push_back(size);
  for (size_t size : sizes) {
    setBytes(data.substr(0, size));
    EXPECT_NE(failure(), "") << "cut to " << size;
  }
  setBytes(data + '\0');
  EXPECT_NE(failure().find("follow the last image"), std::string::npos);
}

TEST_F(PlanFileTest, EveryAlteredByteIsReported) {
  ASSERT_TRUE(sample().write(path));
  std::string data = bytes();
  std::mt19937 random(7);
  for (size_t i = 0; i < data.size(); ++i) {
    // In place: replacing a file thousands of times would wait for the disk.
    std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
    auto put = [&](char c) { stream.seekp(static_cast<std::streamoff>(i)).put(c).flush(); };
    put(static_cast<char>(data[i] ^ (1 << random() % 8)));
    ASSERT_NE(failure(), "") << "byte " << i << " of " << data.size();
    put(data[i]);
  }
}

TEST_F(PlanFileTest, AnotherVersionHasItsOwnMessage) {
  ASSERT_TRUE(sample().write(path));
  std::string data = bytes();
  data[8] = 2;
  setBytes(data);
  EXPECT_NE(failure().find("format version"), std::string::npos);
  EXPECT_NE(failure().find("version 2"), std::string::npos);
}

TEST_F(PlanFileTest, OtherFilesAreNotPlans) {
  setBytes("ONNX or so");
  EXPECT_NE(failure().find("not a plan file"), std::string::npos);
  setBytes("");
  EXPECT_NE(failure().find("not a plan file"), std::string::npos);
  path = folder;
  EXPECT_NE(failure(), "");
  path = folder / "absent.moe";
  EXPECT_NE(failure().find("No such file"), std::string::npos);
}

TEST_F(PlanFileTest, HostileLengthsAreNotBelieved) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  std::string data = bytes();
  for (uint64_t length : {UINT64_MAX, UINT64_MAX - 31, uint64_t{1} << 40, uint64_t{data.size()}}) {
    std::string altered = data;
    std::memcpy(&altered[16], &length, 8);
    setBytes(altered);
    EXPECT_NE(failure(), "") << length;
  }
  auto image = [&](auto change) {
    plan::Plan plan = file.plan;
    change(*plan.mutable_images(1));
    setBytes(withMessage(plan, data));
    return failure();
  };
  ASSERT_EQ(image([](plan::Image &) {}), ""); // the forged file itself is sound
  EXPECT_NE(image([](plan::Image &i) { i.set_bytes(UINT64_MAX); }), "");
  EXPECT_NE(image([](plan::Image &i) { i.set_bytes(5001); }), "");
  EXPECT_NE(image([](plan::Image &i) { i.set_bytes(4999); }), "");
  EXPECT_NE(image([](plan::Image &i) { i.set_blob_offset(0); }), "");
  EXPECT_NE(image([](plan::Image &i) { i.set_blob_offset(UINT64_MAX - 100); }), "");
  EXPECT_NE(image([](plan::Image &i) { i.set_digest(1); }), "");
}

TEST_F(PlanFileTest, AMessageThatIsNoPlanIsReported) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  std::string data = bytes();
  // Nested groups a million deep would exhaust the stack of a parser without a limit.
  std::string nested(1 << 20, '\x0b');
  uint64_t length = nested.size(), digest = XXH3_64bits(nested.data(), nested.size());
  std::memcpy(&data[16], &length, 8);
  std::memcpy(&data[24], &digest, 8);
  setBytes(data.substr(0, 32) + nested + std::string(4096 - 32, '\0'));
  EXPECT_NE(failure().find("not a plan"), std::string::npos);
}

// What a later release adds to plans may not be passed over, wherever it stands.
TEST_F(PlanFileTest, FieldsOfAnotherReleaseAreRefused) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  std::string data = bytes();
  auto withUnknown = [&](google::protobuf::Message &in) {
    in.GetReflection()->MutableUnknownFields(&in)->AddVarint(9999, 1);
    setBytes(withMessage(file.plan, data));
    in.GetReflection()->MutableUnknownFields(&in)->Clear();
    return failure();
  };
  EXPECT_NE(withUnknown(file.plan).find("does not know"), std::string::npos);
  EXPECT_NE(withUnknown(*file.plan.mutable_header()->mutable_model()).find("does not know"), std::string::npos);
  EXPECT_NE(withUnknown(*file.plan.mutable_images(1)).find("does not know"), std::string::npos);
  EXPECT_EQ((setBytes(withMessage(file.plan, data)), failure()), "");
}

TEST_F(PlanFileTest, AFailedWriteKeepsThePreviousFile) {
  PlanFile file = sample();
  ASSERT_TRUE(file.write(path));
  std::string before = bytes();

  // A full disk and this limit look the same to write(): fewer bytes than asked for, then an error.
  rlimit previous{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &previous), 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = {6000, previous.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  Status status = file.write(path);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &previous), 0);
  std::signal(SIGXFSZ, handler);

  ASSERT_FALSE(status);
  EXPECT_NE(status.error().str().find("cannot write"), std::string::npos);
  EXPECT_EQ(bytes(), before);
  EXPECT_EQ(filesInFolder(), std::vector<std::string>{"model.moe"});
}

TEST_F(PlanFileTest, UnwritablePathsAreReported) {
  Status status = sample().write(folder / "absent" / "model.moe");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().str().find("No such file"), std::string::npos);
  fs::create_directories(path / "occupied");
  EXPECT_FALSE(sample().write(path)); // a folder of that name
  EXPECT_EQ(filesInFolder(), std::vector<std::string>{"model.moe"});
}

} // namespace
