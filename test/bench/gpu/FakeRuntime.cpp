//===- FakeRuntime.cpp - Functions of the CUDA runtime that do nothing, to be counted -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include <cuda_runtime_api.h>

extern "C" {

cudaError_t cudaGraphLaunch(cudaGraphExec_t /*graph*/, cudaStream_t /*stream*/) {
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t /*stream*/) {
  return cudaErrorLaunchFailure;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t /*graph*/, unsigned long long flags) {
  *executable = nullptr;
  return flags == 7 ? cudaSuccess : cudaErrorInvalidValue;
}

/// Three nodes, the first two kernels.
cudaError_t cudaGraphGetNodes(cudaGraph_t /*graph*/, cudaGraphNode_t *nodes, size_t *count) {
  *count = 3;
  for (size_t i = 0; nodes && i < *count; ++i)
    nodes[i] = reinterpret_cast<cudaGraphNode_t>(i); // NOLINT(performance-no-int-to-ptr)
  return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType *type) {
  *type = reinterpret_cast<size_t>(node) < 2 ? cudaGraphNodeTypeKernel : cudaGraphNodeTypeMemset;
  return cudaSuccess;
}

} // extern "C"
