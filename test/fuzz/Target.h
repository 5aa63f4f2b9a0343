//===- Target.h - What fuzz targets share -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// A fuzz target is a program that hands any bytes to one of our readers. Whatever they are, the reader must refuse them
// with a message or take them; crashes, hangs, leaks and messages that call moec itself defective are findings.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_TARGET_H
#define MOEC_TEST_FUZZ_TARGET_H

#include "runtime/core/Diagnostic.h"
#include "test/runtime/TestFiles.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <string_view>

/// The function that libFuzzer and Replay.cpp call for each input.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

namespace moe::fuzz {

/// Ends the program, as a crash would, where a reader does what it must not do.
[[noreturn]] inline void finding(std::string_view what) {
  std::fprintf(stderr, "FINDING: %.*s\n", int(what.size()), what.data());
  std::abort();
}

/// A refusal must say what is wrong, and never that moec is.
inline void checkRefusal(const Diagnostic &diagnostic) {
  if (diagnostic.what.empty())
    finding("a refusal without a message");
  if (diagnostic.code == ExitCode::Internal)
    finding("an internal error: " + diagnostic.str());
}

/// True if it succeeded; a refusal is checked.
template <typename Result> bool taken(const Result &result) {
  if (!result)
    checkRefusal(result.error());
  return bool(result);
}

/// Ends the program if what follows in the scope takes longer than anybody may have to wait. It is the processor's
/// time: the clock on the wall says little where other programs run too.
class TimeLimit {
public:
  TimeLimit() = default;
  TimeLimit(const TimeLimit &) = delete;
  TimeLimit &operator=(const TimeLimit &) = delete;
  ~TimeLimit() {
    if (std::clock() - start > std::clock_t(kSeconds * CLOCKS_PER_SEC))
      finding("an input that takes more than ten seconds");
  }

private:
  static constexpr int kSeconds = 10;
  std::clock_t start = std::clock();
};

inline std::string_view textOf(const uint8_t *data, size_t size) {
  return {reinterpret_cast<const char *>(data), size};
}

/// The folder in which a target writes its inputs, since readers take paths. It lives as long as the process, in memory
/// where the system offers that, since a plan is written with a sync.
inline const test::TemporaryFolder &folder() {
  namespace fs = std::filesystem;
  std::error_code error;
  static const test::TemporaryFolder shared(fs::is_directory("/dev/shm", error) ? fs::path("/dev/shm")
                                                                                : fs::temp_directory_path());
  return shared;
}

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_TARGET_H
