//===- LogTest.cpp - What a run tells ----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/EventFile.h"
#include "runtime/log/LineWriter.h"
#include "runtime/log/MemoryUsage.h"
#include "runtime/log/TrainLog.h"

#include "test/runtime/TestFiles.h"

#include <cmath>
#include <csignal>
#include <gtest/gtest.h>
#include <memory>
#include <unistd.h>

using namespace moe;

namespace {
struct Pipe {
  Pipe() { EXPECT_EQ(::pipe(ends), 0); }
  ~Pipe() {
    closeReader();
    ::close(ends[1]);
  }
  void closeReader() {
    if (ends[0] >= 0)
      ::close(ends[0]);
    ends[0] = -1;
  }
  std::string read() {
    char buffer[4096];
    ssize_t size = ::read(ends[0], buffer, sizeof(buffer));
    return std::string(buffer, size_t(std::max<ssize_t>(size, 0)));
  }
  int ends[2];
};
} // namespace

// Each line is there when `line` returns; a terminal's control characters never reach a pipe.
TEST(LineWriter, WritesWholeLinesAtOnce) {
  Pipe pipe;
  LineWriter writer(pipe.ends[1]);
  EXPECT_FALSE(writer.isTerminal());
  writer.line("one");
  EXPECT_EQ(pipe.read(), "one\n");
  writer.status("progress");
  writer.endStatus();
  writer.line("two");
  EXPECT_EQ(pipe.read(), "two\n");
}

TEST(LineWriter, OutlivesItsReader) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  LineWriter writer(pipe.ends[1]);
  pipe.closeReader();
  writer.line("nobody listens");
  writer.line("still nobody");
}

TEST(TrainLog, JsonNumbersKeepTheirBits) {
  LogRecord record;
  record["update"] = int64_t(1) << 53;
  record["loss"] = 0.1 + 0.2;
  record["lr"] = 5e-324;
  record["float"] = double(0.1f);
  record["nan"] = std::nan("");
  std::string text = TrainLog::toJson(record);
  EXPECT_EQ(text.find("{\"update\":9007199254740992,\"loss\":"), 0u) << text; // in the order given
  auto back = nlohmann::json::parse(text);
  EXPECT_EQ(back["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(back["lr"].get<double>(), 5e-324);
  EXPECT_EQ(back["float"].get<double>(), double(0.1f));
  EXPECT_TRUE(back["nan"].is_null());
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(TrainLog, ResultsAndMessagesGoSeparateWays) {
  Pipe out, err;
  TrainLog automatic(TrainLog::Format::Automatic, out.ends[1], err.ends[1]);
  EXPECT_TRUE(automatic.isJson()); // a pipe is no terminal
  automatic.record({{"loss", 1.5}});
  EXPECT_EQ(out.read(), "{\"loss\":1.5}\n");
  automatic.message("hello");
  EXPECT_EQ(err.read(), "hello\n");
  TrainLog progress(TrainLog::Format::Progress, out.ends[1], err.ends[1]);
  progress.progress({{"update", "3/10"}, {"loss", 1.23456789}});
  EXPECT_EQ(out.read(), "update 3/10 | loss 1.2346\n");
}

TEST(TrainLog, DurationsAreReadable) {
  EXPECT_EQ(durationText(14.9), "14 s");
  EXPECT_EQ(durationText(200), "3 min 20 s");
  EXPECT_EQ(durationText(3725), "1 h 02 min");
  EXPECT_EQ(durationText(std::nan("")), "0 s");
  EXPECT_EQ(durationText(-1), "0 s");
}

// Memory counts when it is touched, not when it is reserved.
TEST(MemoryUsage, GrowsWithTouchedPages) {
  constexpr size_t size = size_t(64) << 20;
  int64_t before = residentBytes();
  ASSERT_GT(before, 0);
  std::unique_ptr<volatile char[]> block(new volatile char[size]);
  EXPECT_LT(residentBytes() - before, int64_t(size) / 2);
  for (size_t i = 0; i < size; i += 4096)
    block[i] = 1;
  EXPECT_NEAR(double(residentBytes() - before), double(size), double(size) / 16);
}

// The check value of CRC-32C in RFC 3720, B.4: 32 bytes of zeros; and that of the catalogue of CRCs for "123456789".
TEST(EventFile, ChecksumsAreCrc32c) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
}

// A second file in the same second has another name, and what is no folder is an error.
TEST(EventFile, NeverOverwrites) {
  test::TemporaryFolder folder;
  auto first = EventFile::create(folder.path() / "runs" / "a"),
       second = EventFile::create(folder.path() / "runs" / "a");
  ASSERT_TRUE(first && second);
  EXPECT_TRUE(first->add(1, LogRecord{{"loss", 2.5}, {"note", "text"}}));
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder.path() / "runs" / "a"))
    files += entry.path().filename().string().starts_with("events.out.tfevents.");
  EXPECT_EQ(files, 2);
  EXPECT_FALSE(EventFile::create(folder.write("file", "x")));
}
