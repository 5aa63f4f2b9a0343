//===- NcclApi.h - The part of NCCL that the backend uses ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// NCCL is loaded when a plan for several ranks runs, so that neither building nor running on one device needs it.
// Names, values and signatures are those of its C interface, which has kept them since 2.7.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_NCCLAPI_H
#define MOEC_RUNTIME_CUDA_NCCLAPI_H

#include "runtime/core/Diagnostic.h"

#include <array>
#include <cstddef>
#include <cuda_runtime.h>

struct ncclComm;

namespace moe::cuda {

enum class NcclResult : int {
  Success = 0,
  UnhandledCudaError = 1,
  SystemError = 2,
  InternalError = 3,
  InvalidArgument = 4,
  InvalidUsage = 5,
  RemoteError = 6,
  InProgress = 7
};

/// Blocks are bytes to NCCL: what is added up is added up by us.
enum class NcclType : int { Int8 = 0 };

/// What the members of a communicator find each other by.
struct NcclId {
  std::array<char, 128> bytes;
};

struct NcclApi {
  NcclResult (*getVersion)(int *version) = nullptr;
  const char *(*getErrorString)(NcclResult result) = nullptr;
  NcclResult (*getUniqueId)(NcclId *id) = nullptr;
  NcclResult (*commInitRank)(ncclComm **comm, int ranks, NcclId id, int rank) = nullptr;
  NcclResult (*commDestroy)(ncclComm *comm) = nullptr;
  NcclResult (*commAbort)(ncclComm *comm) = nullptr;
  NcclResult (*commGetAsyncError)(ncclComm *comm, NcclResult *result) = nullptr;
  NcclResult (*groupStart)() = nullptr;
  NcclResult (*groupEnd)() = nullptr;
  NcclResult (*send)(const void *from, size_t count, NcclType type, int peer, ncclComm *comm,
                     cudaStream_t stream) = nullptr;
  NcclResult (*recv)(void *to, size_t count, NcclType type, int peer, ncclComm *comm, cudaStream_t stream) = nullptr;
  NcclResult (*allGather)(const void *from, void *to, size_t count, NcclType type, ncclComm *comm,
                          cudaStream_t stream) = nullptr;
};

/// Loads `libnccl.so.2` where the dynamic linker finds it, once per process. Errors: it is not there, is older
/// than 2.18 or lacks a function.
Expected<const NcclApi *> loadNccl();

/// "2.28.3" of 22803.
std::string ncclVersionText(int version);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_NCCLAPI_H
