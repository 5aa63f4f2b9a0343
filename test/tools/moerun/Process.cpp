//===- Process.cpp - Running a program ---------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/tools/moerun/Process.h"
#include "test/runtime/TestFiles.h"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace moe::test {

[[noreturn]] static void becomeProgram(std::vector<char *> &arguments, int out, int err,
                                       const ProcessOptions &options) {
  ::dup2(out, 1);
  ::dup2(err, 2);
  std::signal(SIGPIPE, SIG_DFL);
  std::signal(SIGXFSZ, SIG_DFL);
  if (options.fileLimit >= 0) {
    rlimit limit = {rlim_t(options.fileLimit), rlim_t(options.fileLimit)};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

Outcome runProcess(const std::filesystem::path &folder, const std::vector<std::string> &words,
                   const ProcessOptions &options) {
  std::vector<char *> arguments;
  for (const std::string &word : words)
    arguments.push_back(const_cast<char *>(word.c_str()));
  arguments.push_back(nullptr);
  const auto outPath = folder / "stdout", errPath = folder / "stderr";
  int out = ::open(outPath.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  int err = ::open(errPath.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (options.brokenPipe) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) == 0) {
      ::close(ends[0]);
      ::close(out);
      out = ends[1];
    }
  }
  pid_t child = ::fork();
  if (child == 0)
    becomeProgram(arguments, out, err, options);
  ::close(out);
  ::close(err);
  if (options.killAfter >= 0) {
    ::usleep(useconds_t(options.killAfter * 1e6));
    ::kill(child, options.signal);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), readFile(outPath), readFile(errPath)};
}

} // namespace moe::test
