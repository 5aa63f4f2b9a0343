//===- Replay.cpp - Runs a fuzz target on files -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// The main program of the targets where there is no libFuzzer: every file of the folders given goes through the target
// once. What was once a finding lies among them, so that it stays mended. A file may take as much time and memory as
// any input of moec that is not good for anything.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/Target.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <sys/resource.h>
#include <sys/time.h>
#include <vector>

namespace {

constexpr int kSeconds = 10;
constexpr long kMoreKilobytes = 1 << 20;

long peakKilobytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

std::vector<std::filesystem::path> filesOf(int argc, char **argv) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    std::error_code error;
    if (!fs::is_directory(argv[i], error)) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const fs::directory_entry &entry : fs::directory_iterator(argv[i], error))
      if (entry.is_regular_file(error))
        files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

} // namespace

int main(int argc, char **argv) {
  const std::vector<std::filesystem::path> files = filesOf(argc, argv);
  if (files.empty()) {
    std::fprintf(stderr, "no files: give the inputs, or folders of them\n");
    return 2;
  }
  const long before = peakKilobytes();
  for (const std::filesystem::path &file : files) {
    // Said before it happens: a crash says nothing.
    std::printf("%s\n", file.c_str());
    std::fflush(stdout);
    const std::string bytes = moe::test::readFile(file);
    // Ends what never ends.
    const itimerval limit = {{}, {2 * kSeconds, 0}};
    ::setitimer(ITIMER_PROF, &limit, nullptr);
    const std::clock_t start = std::clock();
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
    if (std::clock() - start > kSeconds * CLOCKS_PER_SEC)
      moe::fuzz::finding("it took more than ten seconds");
    if (peakKilobytes() - before > kMoreKilobytes)
      moe::fuzz::finding("it took more than 1 GiB of memory");
  }
  std::printf("%zu files\n", files.size());
  return 0;
}
