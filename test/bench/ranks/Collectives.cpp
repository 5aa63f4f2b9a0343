//===- Collectives.cpp - Collectives of moerun, of MPI, and copies, taking turns ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
//   bench_collectives N ROUNDS        N ranks that are threads
//   mpirun … bench_collectives 0 ROUNDS
//
// Prints a line of JSON for each collective, way and size: the fastest and the median time of one call in seconds.
// `bytes` is what a rank has afterwards. Ways: "moerun" (runtime/cpu/Collective.h on this communicator), under a
// launcher "mpi" (what MPI itself offers), and "copy" (all ranks copy that many bytes at the same time).
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/Agreement.h"
#include "runtime/comm/Launcher.h"
#include "runtime/comm/ThreadRanks.h"
#include "runtime/cpu/Collective.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mpi.h>
#include <string>
#include <thread>
#include <tuple>

using namespace moe;

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kSizes[] = {4 << 10, 64 << 10, 1 << 20, 16 << 20};
/// Calls are repeated until they move this much, so that short ones can be timed.
constexpr size_t kBytesPerTurn = 4 << 20;

struct Buffers {
  explicit Buffers(size_t bytes) : input(bytes, std::byte{1}), output(bytes) {}
  std::vector<std::byte> input, output;
};

class Bench {
public:
  Bench(Communicator &communicator, bool hasMpi)
      : communicator(communicator), all(communicator.all()), hasMpi(hasMpi) {}

  /// One turn of everything.
  bool round() {
    for (size_t bytes : kSizes) {
      Buffers memory(bytes);
      if (!turns("all_to_all", plan::Collective::ALL_TO_ALL, memory) ||
          !turns("all_gather", plan::Collective::ALL_GATHER, memory))
        return false;
    }
    return true;
  }

  void print() const {
    for (auto [key, seconds] : times) {
      std::sort(seconds.begin(), seconds.end());
      const auto &[what, way, bytes] = key;
      std::printf(R"({"what":"%s","way":"%s","bytes":%zu,"ranks":%d,"best":%.9f,"median":%.9f})"
                  "\n",
                  what.c_str(), way.c_str(), bytes, communicator.size(), seconds.front(), seconds[seconds.size() / 2]);
    }
  }

private:
  bool turns(const std::string &what, plan::Collective::Kind kind, Buffers &memory) {
    const size_t bytes = memory.output.size(), ranks = static_cast<size_t>(communicator.size());
    const size_t block = bytes / ranks;
    plan::Collective work;
    work.set_kind(kind);
    const bool gathers = kind == plan::Collective::ALL_GATHER;
    work.set_count(static_cast<int64_t>((gathers ? block : bytes) / sizeof(float)));
    for (plan::Parts *parts : {work.mutable_split(), work.mutable_concat()}) {
      parts->set_outer(1);
      parts->set_inner(static_cast<int64_t>(block / sizeof(float)));
    }
    cpu::Collective collective(work, plan::F32, {memory.input.data(), memory.output.data()}, communicator.all(),
                               cpu::ThreadPool(1), "bench");
    bool works = turn({what, "moerun", bytes}, [&] { return collective.run().has_value(); });
    if (hasMpi)
      works = works && turn({what, "mpi", bytes}, [&] {
                const auto count = static_cast<int>(block);
                return (gathers ? MPI_Allgather(memory.input.data(), count, MPI_BYTE, memory.output.data(), count,
                                                MPI_BYTE, MPI_COMM_WORLD)
                                : MPI_Alltoall(memory.input.data(), count, MPI_BYTE, memory.output.data(), count,
                                               MPI_BYTE, MPI_COMM_WORLD)) == MPI_SUCCESS;
              });
    return works && turn({what, "copy", bytes}, [&] {
             std::memcpy(memory.output.data(), memory.input.data(), bytes);
             // The compiler must not see that nobody reads it.
             __asm__ volatile("" : : "r"(memory.output.data()) : "memory");
             return true;
           });
  }

  using Key = std::tuple<std::string, std::string, size_t>;

  template <typename Call> bool turn(const Key &key, Call call) {
    const size_t calls = std::max<size_t>(1, kBytesPerTurn / std::get<2>(key));
    if (!call() || !anyOf(*all, false, "bench"))
      return false;
    const Clock::time_point start = Clock::now();
    for (size_t i = 0; i < calls; ++i)
      if (!call())
        return false;
    times[key].push_back(std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(calls));
    return anyOf(*all, false, "bench").has_value();
  }

  Communicator &communicator;
  std::unique_ptr<Group> all;
  bool hasMpi;
  std::map<Key, std::vector<double>> times;
};

/// -1 if the text is no number.
int number(const char *text) {
  int value = -1;
  const char *end = text + std::strlen(text);
  return std::from_chars(text, end, value).ptr == end ? value : -1;
}

bool run(Communicator &communicator, bool hasMpi, int rounds) {
  Bench bench(communicator, hasMpi);
  for (int i = 0; i < rounds; ++i)
    if (!bench.round())
      return false;
  if (communicator.rank() == 0)
    bench.print();
  return true;
}

} // namespace

int main(int argc, char **argv) {
  const int threads = argc == 3 ? number(argv[1]) : -1, rounds = argc == 3 ? number(argv[2]) : 0;
  if (threads < 0 || rounds < 1) {
    std::fprintf(stderr, "usage: bench_collectives THREADS ROUNDS   (THREADS 0: under mpirun)\n");
    return 2;
  }
  if (threads == 0) {
    auto launch = findLaunch([](const char *name) -> const char * { return std::getenv(name); });
    if (!launch) {
      std::fprintf(stderr, "to be run under mpirun\n");
      return 1;
    }
    auto communicator = connect(*launch, {.deadline = 60});
    if (!communicator) {
      std::fprintf(stderr, "%s\n", communicator.error().str().c_str());
      return 1;
    }
    return run(**communicator, true, rounds) ? 0 : 1;
  }
  auto ranks = makeThreadRanks(threads, {.deadline = 60});
  std::vector<std::thread> running;
  running.reserve(ranks.size());
  std::atomic<bool> works = true;
  for (auto &rank : ranks)
    running.emplace_back([&works, link = rank.get(), rounds] {
      if (!run(*link, false, rounds))
        works = false;
    });
  for (std::thread &thread : running)
    thread.join();
  return works ? 0 : 1;
}
