//===- Errors.h - Errors of CUDA and its libraries as diagnostics -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_ERRORS_H
#define MOEC_RUNTIME_CUDA_ERRORS_H

#include "runtime/core/Diagnostic.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

namespace moe::cuda {

/// "cannot `action`", with the name and description of the error; success if there is none.
Status check(cudaError_t code, const char *action);
Status check(cublasStatus_t code, const char *action);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_ERRORS_H
