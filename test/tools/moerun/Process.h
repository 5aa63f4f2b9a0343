//===- Process.h - Running a program -----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_TOOLS_MOERUN_PROCESS_H
#define MOEC_TEST_TOOLS_MOERUN_PROCESS_H

#include <filesystem>
#include <string>
#include <vector>

namespace moe::test {

/// How a program ended and what it said.
struct Outcome {
  int code = -1; ///< exit code, or -signal
  std::string out, err;
};

struct ProcessOptions {
  double killAfter = -1; ///< seconds until `signal` is sent; negative = never
  int signal = 0;
  long fileLimit = -1;     ///< largest file in bytes that the program may write
  bool brokenPipe = false; ///< standard output is a pipe that nobody reads
};

/// Runs a program to its end; its output passes through files in `folder`.
Outcome runProcess(const std::filesystem::path &folder, const std::vector<std::string> &words,
                   const ProcessOptions &options = {});

} // namespace moe::test

#endif // MOEC_TEST_TOOLS_MOERUN_PROCESS_H
