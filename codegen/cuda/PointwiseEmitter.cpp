//===- PointwiseEmitter.cpp - A thread per vector of elements -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/CudaEmitter.h"

using namespace mlir;

namespace moe::codegen::cuda {

void emitPointwise(NodeEmitter &e, ThreadContext &t) {
  const Strategy &s = e.strategy;
  SmallVector<unsigned> dims(s.outer);
  dims.append(s.inner);
  ifThen(e, isBelow(e, t.global(), s.outerCount() * s.chunks), [&] {
    Scope scope = outerScope(e);
    openVector(e, dims, t.global(), scope);
    // All values before any store: an output may lie in the bytes of an input.
    for (const GraphOutput &output : e.graph.outputs)
      e.node(output.node, scope);
    for (auto [number, output] : llvm::enumerate(e.graph.outputs))
      e.store(output, static_cast<unsigned>(number), scope);
  });
}

} // namespace moe::codegen::cuda
