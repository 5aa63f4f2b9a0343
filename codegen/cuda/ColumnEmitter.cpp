//===- ColumnEmitter.cpp - A thread per vector of columns ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Neighbouring threads add up neighbouring columns, each thread the rows of one part, in registers. A second call adds
// the parts in order, so that the sum does not depend on which thread comes first.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/CudaEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

namespace moe::codegen::cuda {

namespace {

/// Rows whose loads are in flight at a time: as many as registers allow, at most four.
int64_t rowsAtOnce(const Strategy &s) {
  constexpr int64_t mostRows = 4, mostValues = 128;
  auto values = static_cast<int64_t>(s.graph.nodes.size() * s.lanes);
  return std::clamp<int64_t>(mostValues / values, 1, mostRows);
}

class ColumnLoops {
public:
  ColumnLoops(NodeEmitter &e) : e(e), s(e.strategy), graph(e.graph) {
    for (NodeId id : graph.reductions)
      operands.push_back(graph.nodes[id].operands[0]);
    for (const GraphOutput &output : graph.outputs)
      results.push_back(output.node);
  }

  Values identities() {
    Values values;
    for (NodeId id : graph.reductions)
      values.push_back(e.identity(graph.nodes[id], s.lanes > 1));
    return values;
  }
  /// Adds rows [low, high) of the outermost reduced dimension to `sums`.
  Values addRows(ArrayRef<unsigned> dims, Value low, Value high, Values sums, const Scope &scope);
  Value pointer(size_t reduction, Value part, Scope &scope);
  void storePartials(Value part, ArrayRef<Value> sums, Scope &scope);
  Values combineParts(Scope &scope);
  void storeOutputs(ArrayRef<Value> sums, Scope &scope);

private:
  NodeEmitter &e;
  const Strategy &s;
  const KernelGraph &graph;
  SmallVector<NodeId> operands, results;
};

Values ColumnLoops::addRows(ArrayRef<unsigned> dims, Value low, Value high, Values sums, const Scope &scope) {
  unsigned dim = dims.front();
  if (dims.size() > 1)
    return forLoop(e, low, high, 1, std::move(sums), [&](Value row, Values &values) {
      Scope inner = scope;
      inner.dims[dim] = row;
      values = addRows(dims.drop_front(), e.constant(0), e.constant(s.sizeOf(dims[1])), values, inner);
    });
  auto add = [&](Value row, int64_t rows, Values &values) {
    SmallVector<Values> terms;
    for (int64_t r = 0; r < rows; ++r) {
      Scope inner = scope;
      inner.dims[dim] = r == 0 ? row : Value(arith::AddIOp::create(e.b, row, e.constant(r)));
      Values &mine = terms.emplace_back();
      for (NodeId operand : operands)
        mine.push_back(e.vectorNode(operand, inner));
    }
    for (const Values &mine : terms)
      for (auto [id, value, term] : llvm::zip(graph.reductions, values, mine))
        value = e.combine(graph.nodes[id], value, term);
  };
  int64_t rows = rowsAtOnce(s);
  Value length = arith::SubIOp::create(e.b, high, low);
  Value even = arith::AddIOp::create(e.b, low, arith::SubIOp::create(e.b, length, remainder(e, length, rows)));
  sums = forLoop(e, low, even, rows, std::move(sums), [&](Value row, Values &values) { add(row, rows, values); });
  return forLoop(e, even, high, 1, std::move(sums), [&](Value row, Values &values) { add(row, 1, values); });
}

/// The partial results of `part` at the scope's columns.
Value ColumnLoops::pointer(size_t reduction, Value part, Scope &scope) {
  Value position = part;
  for (unsigned dim : s.outer) {
    position = arith::MulIOp::create(e.b, position, e.constant(s.sizeOf(dim)));
    position = arith::AddIOp::create(e.b, position, scope.dims[dim]);
  }
  unsigned bytes = partialType(e, graph.reductions[reduction]).getIntOrFloatBitWidth() / 8;
  return e.partialPointer(static_cast<unsigned>(reduction), position, s.outerCount() * s.parts, bytes);
}

void ColumnLoops::storePartials(Value part, ArrayRef<Value> sums, Scope &scope) {
  for (auto [reduction, sum] : llvm::enumerate(sums)) {
    Value value = toPartial(e, sum), at = pointer(reduction, part, scope);
    if (s.lanes > 1)
      e.storeLanes(value, at, scope);
    else
      e.storeRaw(value, at, value.getType().getIntOrFloatBitWidth() / 8);
  }
}

Values ColumnLoops::combineParts(Scope &scope) {
  return forLoop(e, e.constant(0), e.constant(s.parts), 1, identities(), [&](Value part, Values &values) {
    for (auto [reduction, value] : llvm::enumerate(values)) {
      NodeId id = graph.reductions[reduction];
      Type type = partialType(e, id);
      Value at = pointer(reduction, part, scope);
      Value stored = s.lanes > 1 ? e.loadLanes(type, at, scope) : e.loadRaw(type, at, type.getIntOrFloatBitWidth() / 8);
      value = e.combine(graph.nodes[id], value, fromPartial(e, stored, id));
    }
  });
}

void ColumnLoops::storeOutputs(ArrayRef<Value> sums, Scope &scope) {
  for (auto [id, sum] : llvm::zip(graph.reductions, sums))
    scope.values[id] = sum;
  for (NodeId root : results)
    e.node(root, scope);
  for (auto [number, output] : llvm::enumerate(graph.outputs))
    e.store(output, static_cast<unsigned>(number), scope);
}

} // namespace

void emitColumns(NodeEmitter &e, ThreadContext &t, unsigned call) {
  const Strategy &s = e.strategy;
  ColumnLoops loops(e);
  int64_t units = s.outerCount() / s.lanes, parts = call == 0 ? s.parts : 1;
  ifThen(e, isBelow(e, t.global(), units * parts), [&] {
    Scope scope = outerScope(e);
    openVector(e, s.outer, remainder(e, t.global(), units), scope);
    if (call == 1)
      return loops.storeOutputs(loops.combineParts(scope), scope);
    Value part = parts == 1 ? e.constant(0) : divide(e, t.global(), units);
    Value low = arith::MulIOp::create(e.b, part, e.constant(s.partLength));
    Value high = arith::AddIOp::create(e.b, low, e.constant(s.partLength));
    high = arith::MinSIOp::create(e.b, high, e.constant(s.sizeOf(s.inner[0])));
    Values sums = loops.addRows(s.inner, low, high, loops.identities(), scope);
    if (s.parts == 1)
      loops.storeOutputs(sums, scope);
    else
      loops.storePartials(part, sums, scope);
  });
}

} // namespace moe::codegen::cuda
