//===- MpiLibrary.h - The communicator that is loaded by name -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_COMM_MPI_MPILIBRARY_H
#define MOEC_RUNTIME_COMM_MPI_MPILIBRARY_H

#include "runtime/comm/Communicator.h"
#include "runtime/core/DeviceAbi.h"

namespace moe {

/// Type and name of the one function that `libmoerun-mpi.so` exports. Initialises MPI, which can be done once in a
/// process and only under a launcher. The caller owns the result; null after an error, which is then in `problem`.
using CreateMpiFn = Communicator *(const CommOptions &options, Diagnostic &problem);
inline constexpr char kCreateMpiSymbol[] = MOERUN_CREATE_MPI_NAME;

} // namespace moe

#endif // MOEC_RUNTIME_COMM_MPI_MPILIBRARY_H
