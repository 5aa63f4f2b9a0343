//===- PointwiseEmitter.cpp - Loops without reductions ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/KernelEmitter.h"

using namespace mlir;

namespace moe::codegen {

void emitPointwise(NodeEmitter &e, Value begin, Value end) {
  const Strategy &s = e.strategy;
  SmallVector<NodeId> roots;
  for (const GraphOutput &output : e.graph.outputs)
    roots.push_back(output.node);
  Scope top = outerScope(e);
  e.hoist(roots, 0, 0, top);
  // All values before any store: an output may lie in the bytes of an input.
  auto point = [&](Scope &scope) {
    for (NodeId root : roots)
      e.node(root, scope);
    for (auto [number, output] : llvm::enumerate(e.graph.outputs))
      e.store(output, static_cast<unsigned>(number), scope);
  };
  forLoop(e, begin, end, 1, {}, [&](Value unit, Values &) {
    Scope scope = top;
    Value tile = divide(e, unit, s.chunks);
    setDims(e, s.outer, divide(e, tile, s.tiles), scope);
    tile = remainder(e, tile, s.tiles);
    uint64_t available = 0;
    for (unsigned dim : s.outer)
      available |= uint64_t{1} << dim;
    Span span = chunkSpan(e, s.inner[0], remainder(e, unit, s.chunks), s.chunk);
    Values none;
    nest(e, s.inner, span, 1, available, 0, roots, scope, none, [&](Scope &lanes, MutableArrayRef<Value>) {
      if (s.tileDim < 0) {
        point(lanes);
        return;
      }
      e.hoist(roots, available | uint64_t{1} << span.dim, 0, lanes);
      Span rows = chunkSpan(e, static_cast<unsigned>(s.tileDim), tile, s.tileLength);
      forLoop(e, rows.low, rows.high, 1, {}, [&](Value row, Values &) {
        Scope inner = lanes;
        inner.dims[s.tileDim] = row;
        point(inner);
      });
    });
  });
}

} // namespace moe::codegen
