//===- Launcher.h - Which rank of how many is this process? -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_COMM_LAUNCHER_H
#define MOEC_RUNTIME_COMM_LAUNCHER_H

#include "runtime/comm/Communicator.h"

#include <functional>
#include <optional>
#include <string>

namespace moe {

/// What a launcher has told a process through its environment.
struct Launch {
  std::string launcher; ///< "mpirun", "srun"
  int rank = 0;
  int size = 0;            ///< 0: not told
  bool isConnected = true; ///< MPI can find the other processes
};

/// The value of an environment variable; null if it is not set.
using Environment = std::function<const char *(const char *name)>;

/// Nothing if the process was started by hand. Knows mpirun of Open MPI (OMPI_COMM_WORLD_*), launchers that speak PMIx
/// (PMIX_RANK), and srun, which without --mpi=pmix starts processes that know nothing of each other (SLURM_PROCID).
std::optional<Launch> findLaunch(const Environment &environment);

/// The communicator of a process that a launcher has started; initialises MPI. To be called once in a process. Errors:
/// there is no `libmoerun-mpi.so`, it can not be loaded, MPI does not start, srun was not told to use PMIx; all name
/// this rank, since other machines may have what this one lacks. Where MPI waits for longer than the deadline for ranks
/// that never start, says so through `options.report` and ends the process: such a wait cannot be ended otherwise.
Expected<std::unique_ptr<Communicator>> connect(const Launch &launch, const CommOptions &options);

} // namespace moe

#endif // MOEC_RUNTIME_COMM_LAUNCHER_H
