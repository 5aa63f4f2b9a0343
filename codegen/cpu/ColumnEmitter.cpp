//===- ColumnEmitter.cpp - Reductions over leading dimensions ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// Rows are read as they lie in memory and added to a block of columns of partial sums that stays in the first-level
// cache; several rows at a time, so that the sums are loaded and stored less often.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/KernelEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

namespace moe::codegen {

namespace {

/// Rows added at a time.
constexpr int64_t rowsAtOnce = 4;

class ColumnLoops {
public:
  ColumnLoops(NodeEmitter &e) : e(e), s(e.strategy), graph(e.graph), columnDim(s.outer.back()) {
    for (unsigned dim : s.outer)
      count *= s.sizeOf(dim);
    for (unsigned dim : ArrayRef<unsigned>(s.outer).drop_back())
      available |= uint64_t{1} << dim;
  }

  /// Adds the rows of `part` to the partial sums of `columns`.
  void accumulate(Value part, const Span &columns, Scope &scope);
  /// Combines the parts, applies what follows the reductions and stores the outputs.
  void finish(const Span &columns, Scope &scope);

private:
  /// Partial sums at the scope's column.
  Value pointer(size_t reduction, Value part, Scope &scope);
  Type partialType(NodeId id) const {
    Type type = e.registerType(graph.nodes[id].type);
    return type.isInteger(1) ? Type(e.b.getI8Type()) : type;
  }
  Value load(size_t reduction, Value part, Scope &scope);
  void store(size_t reduction, Value part, Value value, Scope &scope);
  void addRows(ArrayRef<unsigned> dims, Value low, Value high, Value part, const Span &columns, Scope &scope,
               uint64_t available);

  NodeEmitter &e;
  const Strategy &s;
  const KernelGraph &graph;
  unsigned columnDim;
  int64_t count = 1;
  uint64_t available = 0;
};

Value ColumnLoops::pointer(size_t reduction, Value part, Scope &scope) {
  Value position = part;
  for (unsigned dim : s.outer) {
    position = arith::MulIOp::create(e.b, position, e.constant(s.sizeOf(dim)));
    position = arith::AddIOp::create(e.b, position, scope.dims[dim]);
  }
  unsigned bytes = partialType(graph.reductions[reduction]).getIntOrFloatBitWidth() / 8;
  return e.partialPointer(static_cast<unsigned>(reduction), position, count * s.parts, bytes);
}

// The scratch of a part is shared with the lanes of the next block only where a row ends, so whole vectors would
// overwrite what another unit computes: the mask of the scope applies to partial sums too.
Value ColumnLoops::load(size_t reduction, Value part, Scope &scope) {
  Type type = partialType(graph.reductions[reduction]);
  Value value = e.loadLanes(type, pointer(reduction, part, scope), scope);
  if (graph.nodes[graph.reductions[reduction]].type.isInteger(1))
    value = arith::TruncIOp::create(e.b, e.vectorOf(e.b.getI1Type()), value);
  return value;
}

void ColumnLoops::store(size_t reduction, Value part, Value value, Scope &scope) {
  if (graph.nodes[graph.reductions[reduction]].type.isInteger(1))
    value = arith::ExtUIOp::create(e.b, e.vectorOf(e.b.getI8Type()), value);
  e.storeLanes(value, pointer(reduction, part, scope), scope);
}

void ColumnLoops::addRows(ArrayRef<unsigned> dims, Value low, Value high, Value part, const Span &columns, Scope &scope,
                          uint64_t known) {
  SmallVector<NodeId> roots;
  for (NodeId id : graph.reductions)
    roots.push_back(graph.nodes[id].operands[0]);
  unsigned dim = dims.front();
  if (dims.size() > 1) {
    forLoop(e, low, high, 1, {}, [&](Value row, Values &) {
      Scope inner = scope;
      inner.dims[dim] = row;
      e.hoist(roots, known | uint64_t{1} << dim, 0, inner);
      addRows(dims.drop_front(), e.constant(0), e.constant(s.sizeOf(dims[1])), part, columns, inner,
              known | uint64_t{1} << dim);
    });
    return;
  }
  auto add = [&](Value row, int64_t rows) {
    SmallVector<Scope> scopes;
    for (int64_t r = 0; r < rows; ++r) {
      Scope inner = scope;
      inner.dims[dim] = r == 0 ? row : Value(arith::AddIOp::create(e.b, row, e.constant(r)));
      e.hoist(roots, known | uint64_t{1} << dim, 0, inner);
      scopes.push_back(std::move(inner));
    }
    Values none;
    vectorLoop(e, columns, 1, scope, none, [&](Scope &lane, MutableArrayRef<Value>) {
      Values sums;
      for (size_t reduction = 0; reduction < graph.reductions.size(); ++reduction)
        sums.push_back(load(reduction, part, lane));
      for (const Scope &rowScope : scopes) {
        Scope inner = rowScope;
        inner.dims[columnDim] = lane.dims[columnDim];
        inner.vectorDim = lane.vectorDim;
        inner.mask = lane.mask;
        for (auto [id, sum] : llvm::zip(graph.reductions, sums)) {
          const Node &reduction = graph.nodes[id];
          sum = e.combine(reduction, sum, e.vectorNode(reduction.operands[0], inner));
        }
      }
      for (auto [reduction, sum] : llvm::enumerate(sums))
        store(reduction, part, sum, lane);
    });
  };
  Value length = arith::SubIOp::create(e.b, high, low);
  Value even = arith::AddIOp::create(e.b, low, arith::SubIOp::create(e.b, length, remainder(e, length, rowsAtOnce)));
  forLoop(e, low, even, rowsAtOnce, {}, [&](Value row, Values &) { add(row, rowsAtOnce); });
  forLoop(e, even, high, 1, {}, [&](Value row, Values &) { add(row, 1); });
}

void ColumnLoops::accumulate(Value part, const Span &columns, Scope &scope) {
  Values none;
  vectorLoop(e, columns, 1, scope, none, [&](Scope &lane, MutableArrayRef<Value>) {
    for (auto [reduction, id] : llvm::enumerate(graph.reductions))
      store(reduction, part, e.identity(graph.nodes[id], true), lane);
  });
  Value low = arith::MulIOp::create(e.b, part, e.constant(s.partLength));
  Value high = arith::AddIOp::create(e.b, low, e.constant(s.partLength));
  high = arith::MinSIOp::create(e.b, high, e.constant(s.sizeOf(s.inner[0])));
  addRows(s.inner, low, high, part, columns, scope, available);
}

void ColumnLoops::finish(const Span &columns, Scope &scope) {
  SmallVector<NodeId> roots;
  for (const GraphOutput &output : graph.outputs)
    roots.push_back(output.node);
  e.hoist(roots, available, 0, scope);
  Values none;
  vectorLoop(e, columns, 1, scope, none, [&](Scope &lane, MutableArrayRef<Value>) {
    Values sums;
    for (size_t reduction = 0; reduction < graph.reductions.size(); ++reduction)
      sums.push_back(load(reduction, e.constant(0), lane));
    if (s.parts > 1)
      sums = forLoop(e, e.constant(1), e.constant(s.parts), 1, sums, [&](Value part, Values &values) {
        for (auto [reduction, value] : llvm::enumerate(values))
          value = e.combine(graph.nodes[graph.reductions[reduction]], value, load(reduction, part, lane));
      });
    for (auto [id, sum] : llvm::zip(graph.reductions, sums))
      lane.values[id] = sum;
    for (NodeId root : roots)
      e.node(root, lane);
    for (auto [number, output] : llvm::enumerate(graph.outputs))
      e.store(output, static_cast<unsigned>(number), lane);
  });
}

} // namespace

void emitColumns(NodeEmitter &e, unsigned call, Value begin, Value end) {
  const Strategy &s = e.strategy;
  ColumnLoops loops(e);
  bool accumulates = call == 0, finishes = call == 1 || s.parts == 1;
  int64_t parts = accumulates ? s.parts : 1;
  forLoop(e, begin, end, 1, {}, [&](Value unit, Values &) {
    Scope scope = outerScope(e);
    // Neighbouring units are neighbouring blocks of the same rows.
    Value block = remainder(e, unit, s.chunks), rest = divide(e, unit, s.chunks);
    Value part = parts == 1 ? e.constant(0) : Value{};
    ArrayRef<unsigned> outer = ArrayRef<unsigned>(s.outer).drop_back();
    int64_t outerCount = s.outerCount() / s.sizeOf(s.outer.back());
    if (!part) {
      part = divide(e, rest, outerCount);
      rest = remainder(e, rest, outerCount);
    }
    setDims(e, outer, rest, scope);
    Span columns = chunkSpan(e, s.outer.back(), block, s.chunk);
    if (accumulates)
      loops.accumulate(part, columns, scope);
    if (finishes)
      loops.finish(columns, scope);
  });
}

} // namespace moe::codegen
