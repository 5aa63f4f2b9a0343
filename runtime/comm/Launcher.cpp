//===- Launcher.cpp - Which rank of how many is this process? -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/Launcher.h"

#include "runtime/comm/mpi/MpiLibrary.h"
#include "runtime/core/Library.h"

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace moe {

/// The whole number that a variable holds; nothing if it is not set or holds something else.
static std::optional<int> number(const Environment &environment, const char *name) {
  const char *text = environment(name);
  if (!text)
    return {};
  int value = 0;
  auto [end, failure] = std::from_chars(text, text + std::strlen(text), value);
  if (failure != std::errc() || *end != '\0' || value < 0)
    return {};
  return value;
}

std::optional<Launch> findLaunch(const Environment &environment) {
  if (auto rank = number(environment, "OMPI_COMM_WORLD_RANK"))
    return Launch{"mpirun", *rank, number(environment, "OMPI_COMM_WORLD_SIZE").value_or(0)};
  auto tasks = number(environment, "SLURM_STEP_NUM_TASKS");
  if (auto rank = number(environment, "PMIX_RANK"))
    return Launch{tasks ? "srun" : "the launcher", *rank, tasks.value_or(0)};
  // The script of a batch job has SLURM_PROCID too, but is no step.
  if (auto rank = number(environment, "SLURM_PROCID"); rank && tasks.value_or(1) > 1)
    return Launch{"srun", *rank, *tasks, false};
  return {};
}

namespace {

/// "rank 1 of 4", as far as the launcher has told.
std::string nameOf(const Launch &launch) {
  return "rank " + std::to_string(launch.rank) + (launch.size > 0 ? " of " + std::to_string(launch.size) : "");
}

/// MPI waits without end for ranks that never start, and cannot be interrupted: ends the process in its place.
class StartWatch {
public:
  StartWatch(const Launch &launch, const CommOptions &options)
      : thread([this, name = nameOf(launch), &options] { watch(name, options); }) {}
  ~StartWatch() {
    {
      std::lock_guard lock(mutex);
      over = true;
    }
    wake.notify_all();
    thread.join();
  }
  StartWatch(const StartWatch &) = delete;
  StartWatch &operator=(const StartWatch &) = delete;

private:
  void watch(const std::string &name, const CommOptions &options) {
    std::unique_lock lock(mutex);
    if (wake.wait_for(lock, std::chrono::duration<double>(options.deadline), [this] { return over; }))
      return;
    if (options.report)
      options.report(Diagnostic{"MPI does not start", name,
                                "waited " + std::to_string(static_cast<int64_t>(options.deadline)) +
                                    " s for the other ranks, of which one has ended or was never started",
                                "see what the others say; --deadline SECONDS waits longer"}
                         .str());
    ::_exit(static_cast<int>(ExitCode::User));
  }

  std::mutex mutex;
  std::condition_variable wake;
  bool over = false;
  std::thread thread;
};

} // namespace

Expected<std::unique_ptr<Communicator>> connect(const Launch &launch, const CommOptions &options) {
  constexpr char file[] = "libmoerun-mpi.so";
  const std::string self = nameOf(launch);
  if (!launch.isConnected)
    return error("the processes that srun has started do not know each other", self, {},
                 "start them with srun --mpi=pmix");
  auto path = findLibrary(file);
  if (!path)
    return error("this moerun was built without MPI", self + ", " + file,
                 launch.launcher + " has started " +
                     (launch.size > 0 ? std::to_string(launch.size) + " ranks" : std::string("several ranks")) +
                     ", and the library that connects them lies neither beside the program (" + path.error() +
                     ") nor in ../lib",
                 "install Open MPI (Debian: libopenmpi-dev) and build again, or run without " + launch.launcher +
                     ": --ranks N starts ranks that are threads");
  // Plugins of Open MPI look for its symbols among those of the whole process.
  void *library = ::dlopen(path->c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    const char *why = ::dlerror();
    return error("cannot load the library that connects ranks through MPI", self + ", " + path->string(),
                 why ? why : "", "install Open MPI on this machine (Debian: openmpi-bin)");
  }
  auto *create = reinterpret_cast<CreateMpiFn *>(::dlsym(library, kCreateMpiSymbol));
  if (!create)
    return error("the library that connects ranks belongs to another build", self + ", " + path->string(),
                 std::string("it does not define ") + kCreateMpiSymbol, "install it together with the program");
  Diagnostic problem;
  std::unique_ptr<Communicator> communicator;
  {
    StartWatch watch(launch, options);
    communicator.reset(create(options, problem));
  }
  if (!communicator) {
    problem.where = self;
    return tl::unexpected(std::move(problem));
  }
  return communicator;
}

} // namespace moe
