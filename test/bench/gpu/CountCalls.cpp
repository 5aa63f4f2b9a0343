//===- CountCalls.cpp - How often a program calls the CUDA runtime ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A library for LD_PRELOAD: functions of the CUDA runtime that start work, or wait for it, are counted and then called.
// At the end of the program a JSON object is written to the file that MOE_COUNT_CALLS names: the number of calls by
// name, and the nodes of the last graph that was instantiated, of kernels and in all.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <string>
#include <vector>

namespace {

struct Counts {
  std::map<std::string, long> calls;
  size_t kernels = 0, nodes = 0;

  ~Counts() {
    const char *path = std::getenv("MOE_COUNT_CALLS");
    std::FILE *file = path ? std::fopen(path, "w") : nullptr;
    if (!file)
      return;
    std::fprintf(file, "{\"graph_kernels\":%zu,\"graph_nodes\":%zu,\"calls\":{", kernels, nodes);
    const char *comma = "";
    for (const auto &[name, count] : calls) {
      std::fprintf(file, "%s\"%s\":%ld", comma, name.c_str(), count);
      comma = ",";
    }
    std::fprintf(file, "}}\n");
    std::fclose(file);
  }
};
Counts counts;

void countNodes(cudaGraph_t graph) {
  size_t count = 0;
  if (cudaGraphGetNodes(graph, nullptr, &count) != cudaSuccess)
    return;
  std::vector<cudaGraphNode_t> nodes(count);
  if (cudaGraphGetNodes(graph, nodes.data(), &count) != cudaSuccess)
    return;
  counts.nodes = count;
  counts.kernels = 0;
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type{};
    if (cudaGraphNodeGetType(node, &type) == cudaSuccess && type == cudaGraphNodeTypeKernel)
      ++counts.kernels;
  }
}

/// The next definition of the function, once it is counted.
template <typename Function> Function *next(Function * /*of*/, const char *name) {
  ++counts.calls[name];
  auto *function = reinterpret_cast<Function *>(::dlsym(RTLD_NEXT, name));
  if (!function) {
    std::fprintf(stderr, "error: the CUDA runtime has no %s\n", name);
    std::abort();
  }
  return function;
}

} // namespace

extern "C" {

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return next(&cudaGraphLaunch, "cudaGraphLaunch")(graph, stream);
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t bytes,
                             cudaStream_t stream) {
  return next(&cudaLaunchKernel, "cudaLaunchKernel")(function, grid, block, arguments, bytes, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments) {
  return next(&cudaLaunchKernelExC, "cudaLaunchKernelExC")(config, function, arguments);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
  return next(&cudaMemcpy, "cudaMemcpy")(to, from, bytes, kind);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return next(&cudaMemcpyAsync, "cudaMemcpyAsync")(to, from, bytes, kind, stream);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
  return next(&cudaMemsetAsync, "cudaMemsetAsync")(memory, value, bytes, stream);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return next(&cudaEventRecord, "cudaEventRecord")(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return next(&cudaEventQuery, "cudaEventQuery")(event);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return next(&cudaEventSynchronize, "cudaEventSynchronize")(event);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return next(&cudaStreamWaitEvent, "cudaStreamWaitEvent")(stream, event, flags);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return next(&cudaStreamQuery, "cudaStreamQuery")(stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return next(&cudaStreamSynchronize, "cudaStreamSynchronize")(stream);
}

cudaError_t cudaDeviceSynchronize() {
  return next(&cudaDeviceSynchronize, "cudaDeviceSynchronize")();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
  countNodes(graph);
  return next(&cudaGraphInstantiate, "cudaGraphInstantiate")(executable, graph, flags);
}

} // extern "C"
