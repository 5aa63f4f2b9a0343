//===- CountCallsTest.cpp - A program whose calls are counted -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Linked with FakeRuntime.cpp, run with CountCalls.cpp before it by count_calls.sh. Ends with 0 if arguments and
// results get through.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include <cuda_runtime_api.h>

int main() {
  cudaGraphExec_t graph = nullptr;
  bool right = cudaGraphInstantiate(&graph, nullptr, 7) == cudaSuccess;
  for (int i = 0; i < 5; ++i)
    right &= cudaGraphLaunch(graph, nullptr) == cudaSuccess;
  right &= cudaStreamSynchronize(nullptr) == cudaErrorLaunchFailure;
  return right ? 0 : 1;
}
