//===- Errors.cpp - Errors of CUDA and its libraries as diagnostics -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Errors.h"

#include <string>

namespace moe::cuda {

Status check(cudaError_t code, const char *action) {
  if (code == cudaSuccess)
    return {};
  std::string name = cudaGetErrorName(code), text = cudaGetErrorString(code);
  return error(std::string("cannot ") + action, {}, name == text ? name : name + ": " + text);
}

Status check(cublasStatus_t code, const char *action) {
  return code == CUBLAS_STATUS_SUCCESS ? Status()
                                       : error(std::string("cannot ") + action, {}, cublasLtGetStatusString(code));
}

} // namespace moe::cuda
