//===- mpi_rank.cpp - One rank of a test under mpirun -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
//   mpi_rank check           collectives against plain loops
//   mpi_rank leave R HOW     rank R goes away in the middle: HOW is kill, stop, sleep or give-up. Prints its process
//   first
//
// The library is loaded by name, as moerun does it.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/Agreement.h"
#include "runtime/comm/Launcher.h"
#include "test/runtime/comm/CollectiveChecks.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <unistd.h>

using namespace moe;

namespace {

volatile std::sig_atomic_t stopped = 0;

int fail(const std::string &text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  return 1;
}

int check(Communicator &communicator) {
  std::string problem = test::checkCollectives(communicator, 5, 120);
  if (problem.empty())
    problem = test::checkExchanges(communicator, 100);
  return problem.empty() ? 0 : fail(problem);
}

void leave(Communicator &communicator, const std::string &how) {
  std::printf("pid %d at %lld\n", static_cast<int>(::getpid()), static_cast<long long>(std::time(nullptr)));
  std::fflush(stdout);
  if (how == "give-up")
    communicator.giveUp({"the data are damaged", {}, {}, {}});
  if (how == "sleep")
    ::sleep(1000);
  std::raise(how == "stop" ? SIGSTOP : SIGKILL);
}

int meet(Communicator &communicator, int leaver, const std::string &how) {
  auto all = communicator.all();
  for (int update = 0; update < 5; ++update) {
    communicator.setUpdate(update);
    if (update == 3 && communicator.rank() == leaver)
      leave(communicator, how);
    if (auto any = anyOf(*all, false, "program 'update', step 7 'norm'"); !any) {
      fail(any.error().str());
      communicator.giveUp(any.error());
      return 1;
    }
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  auto launch = findLaunch([](const char *name) -> const char * { return std::getenv(name); });
  if (!launch)
    return fail("to be run under mpirun");
  std::signal(SIGTERM, [](int) { stopped = 1; });
  auto communicator = connect(*launch, {.deadline = 2,
                                        .interrupted = [] { return stopped != 0; },
                                        .report = [](const std::string &text) { fail(text); }});
  if (!communicator)
    return fail(communicator.error().str());
  if ((*communicator)->rank() != launch->rank || (*communicator)->size() != launch->size)
    return fail("MPI and the launcher disagree on the rank");
  if (mode == "check")
    return check(**communicator);
  return argc == 4 ? meet(**communicator, std::stoi(argv[2]), argv[3]) : fail("what to do?");
}
