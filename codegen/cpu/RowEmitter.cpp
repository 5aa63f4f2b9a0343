//===- RowEmitter.cpp - Reductions over the elements of a row ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/KernelEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace moe::codegen {

namespace {

/// Independent accumulators per reduction: they hide the latency of additions.
constexpr unsigned rowUnroll = 4;
/// Most stack that random numbers of a row may take.
constexpr int64_t keptBytes = 32 << 10;

/// The passes over one row.
class RowPasses {
public:
  RowPasses(NodeEmitter &e) : e(e), s(e.strategy), graph(e.graph) {
    for (unsigned dim : s.outer)
      available |= uint64_t{1} << dim;
    for (const GraphOutput &output : graph.outputs)
      (isFull(output) ? full : perRow).push_back(&output);
    for (const GraphOutput *output : full)
      lastStage = std::max(lastStage, graph.nodes[output->node].stage);
  }

  bool isFull(const GraphOutput &output) const { return output.dims & graph.reductionDims; }
  bool hasFull() const { return !full.empty(); }
  /// Whether full outputs need a pass of their own after that of the last reductions.
  bool needsFinalPass() const { return hasFull() && lastStage >= s.stages; }

  /// Accumulates all reductions of `stage` over `span`, storing full outputs on the way if `stores`; returns one scalar
  /// per reduction of the stage.
  Values reduce(unsigned stage, const Span &span, Scope &scope, bool stores);
  void storeFull(const Span &span, Scope &scope);
  void storePerRow(Scope &scope);
  SmallVector<NodeId> reductionsOf(unsigned stage) const;

private:
  SmallVector<NodeId> fullNodes() const {
    SmallVector<NodeId> nodes;
    for (const GraphOutput *output : full)
      nodes.push_back(output->node);
    return nodes;
  }
  void store(ArrayRef<const GraphOutput *> outputs, Scope &scope);

  NodeEmitter &e;
  const Strategy &s;
  const KernelGraph &graph;
  uint64_t available = 0;
  SmallVector<const GraphOutput *> full, perRow;
  unsigned lastStage = 0;
};

SmallVector<NodeId> RowPasses::reductionsOf(unsigned stage) const {
  SmallVector<NodeId> ids;
  for (NodeId id : graph.reductions)
    if (graph.nodes[id].stage == stage)
      ids.push_back(id);
  return ids;
}

void RowPasses::store(ArrayRef<const GraphOutput *> outputs, Scope &scope) {
  for (const GraphOutput *output : outputs)
    e.node(output->node, scope);
  for (const GraphOutput *output : outputs)
    e.store(*output, static_cast<unsigned>(output - graph.outputs.data()), scope);
}

Values RowPasses::reduce(unsigned stage, const Span &span, Scope &scope, bool stores) {
  SmallVector<NodeId> ids = reductionsOf(stage), roots;
  for (NodeId id : ids)
    roots.push_back(graph.nodes[id].operands[0]);
  if (stores)
    roots.append(fullNodes());
  unsigned unroll = span.maxLength >= 2 * rowUnroll * s.lanes ? rowUnroll : 1;
  Values carried;
  for (unsigned copy = 0; copy < unroll; ++copy)
    for (NodeId id : ids)
      carried.push_back(e.identity(graph.nodes[id], /*vector=*/true));
  nest(e, s.inner, span, unroll, available, stage - 1, roots, scope, carried,
       [&](Scope &inner, MutableArrayRef<Value> accumulators) {
         for (auto [id, accumulator] : llvm::zip(ids, accumulators)) {
           const Node &reduction = graph.nodes[id];
           Value value = e.vectorNode(reduction.operands[0], inner);
           if (inner.mask)
             value = arith::SelectOp::create(e.b, inner.mask, value, e.identity(reduction, true));
           accumulator = e.combine(reduction, accumulator, value);
         }
         if (stores)
           store(full, inner);
       });
  Values results;
  for (auto [position, id] : llvm::enumerate(ids)) {
    const Node &reduction = graph.nodes[id];
    Value sum = carried[position];
    for (unsigned copy = 1; copy < unroll; ++copy)
      sum = e.combine(reduction, sum, carried[copy * ids.size() + position]);
    results.push_back(e.combineLanes(reduction, sum));
  }
  return results;
}

void RowPasses::storeFull(const Span &span, Scope &scope) {
  Values none;
  nest(e, s.inner, span, 1, available, s.stages, fullNodes(), scope, none,
       [&](Scope &inner, MutableArrayRef<Value>) { store(full, inner); });
}

void RowPasses::storePerRow(Scope &scope) {
  store(perRow, scope);
}

/// Gives rows that are walked more than once memory for their random numbers.
void keepRandom(NodeEmitter &e, unsigned passes) {
  const Strategy &s = e.strategy;
  if (passes < 2 || s.inner.size() != 1)
    return;
  // Masked loads among the stores have been measured to cost more than the draws that they save.
  if (llvm::any_of(e.graph.nodes,
                   [](const Node &node) { return node.kind == Node::Kind::Load && node.guard != noNode; }))
    return;
  int64_t length = llvm::alignTo(s.sizeOf(s.inner[0]), s.lanes), room = keptBytes;
  for (auto [id, node] : llvm::enumerate(e.graph.nodes)) {
    if (node.kind != Node::Kind::Random || room < length * 4)
      continue;
    room -= length * 4;
    e.kept[static_cast<NodeId>(id)] =
        LLVM::AllocaOp::create(e.b, LLVM::LLVMPointerType::get(e.b.getContext()), e.b.getF32Type(), e.constant(length),
                               /*alignment=*/64);
  }
}

/// What the pass before has filled the next one may read.
void endPass(NodeEmitter &e) {
  e.filled.insert(e.filling.begin(), e.filling.end());
}

} // namespace

void emitRows(NodeEmitter &e, Value begin, Value end) {
  const Strategy &s = e.strategy;
  RowPasses passes(e);
  keepRandom(e, s.stages + passes.needsFinalPass());
  forLoop(e, begin, end, 1, {}, [&](Value row, Values &) {
    Scope scope = outerScope(e);
    setDims(e, s.outer, row, scope);
    for (unsigned stage = 1; stage <= s.stages; ++stage) {
      bool stores = stage == s.stages && passes.hasFull() && !passes.needsFinalPass();
      Values results = passes.reduce(stage, wholeSpan(e, s.inner.back()), scope, stores);
      for (auto [id, result] : llvm::zip(passes.reductionsOf(stage), results))
        scope.values[id] = result;
      endPass(e);
    }
    if (passes.needsFinalPass())
      passes.storeFull(wholeSpan(e, s.inner.back()), scope);
    passes.storePerRow(scope);
  });
}

void emitSplitRows(NodeEmitter &e, unsigned call, Value begin, Value end) {
  const Strategy &s = e.strategy;
  RowPasses passes(e);
  int64_t count = s.outerCount() * s.chunks;
  SmallVector<NodeId> ids = passes.reductionsOf(1);
  auto partial = [&](size_t reduction, Value position) {
    return e.partialPointer(static_cast<unsigned>(reduction), position, count, s.partialWidth());
  };
  auto typeOfPartial = [&](NodeId id) {
    Type type = e.registerType(e.graph.nodes[id].type);
    return type.isInteger(1) ? Type(e.b.getI8Type()) : type;
  };
  if (call == 0) {
    forLoop(e, begin, end, 1, {}, [&](Value unit, Values &) {
      Scope scope = outerScope(e);
      setDims(e, s.outer, divide(e, unit, s.chunks), scope);
      Span span = chunkSpan(e, s.inner[0], remainder(e, unit, s.chunks), s.chunk);
      Values results = passes.reduce(1, span, scope, false);
      for (auto [position, result] : llvm::enumerate(results)) {
        if (result.getType().isInteger(1))
          result = arith::ExtUIOp::create(e.b, e.b.getI8Type(), result);
        e.storeRaw(result, partial(position, unit), s.partialWidth());
      }
    });
    return;
  }
  // With full outputs every chunk combines the partial results anew, in the same order; the first chunk stores what
  // belongs to the row.
  int64_t chunks = passes.hasFull() ? s.chunks : 1;
  forLoop(e, begin, end, 1, {}, [&](Value unit, Values &) {
    Scope scope = outerScope(e);
    Value row = divide(e, unit, chunks), chunk = remainder(e, unit, chunks);
    setDims(e, s.outer, row, scope);
    Value first = arith::MulIOp::create(e.b, row, e.constant(s.chunks));
    Values sums;
    for (NodeId id : ids)
      sums.push_back(e.identity(e.graph.nodes[id], false));
    sums = forLoop(e, e.constant(0), e.constant(s.chunks), 1, sums, [&](Value position, Values &values) {
      Value element = arith::AddIOp::create(e.b, first, position);
      for (auto [reduction, value] : llvm::enumerate(values)) {
        Value part = e.loadRaw(typeOfPartial(ids[reduction]), partial(reduction, element), s.partialWidth());
        if (value.getType().isInteger(1))
          part = arith::TruncIOp::create(e.b, value.getType(), part);
        value = e.combine(e.graph.nodes[ids[reduction]], value, part);
      }
    });
    for (auto [id, sum] : llvm::zip(ids, sums))
      scope.values[id] = sum;
    if (!passes.hasFull()) {
      passes.storePerRow(scope);
      return;
    }
    passes.storeFull(chunkSpan(e, s.inner[0], chunk, s.chunk), scope);
    Value isFirst = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, chunk, e.constant(0));
    auto branch = scf::IfOp::create(e.b, isFirst, /*withElse=*/false);
    OpBuilder::InsertionGuard guard(e.b);
    e.b.setInsertionPoint(branch.getThenRegion().front().getTerminator());
    passes.storePerRow(scope);
  });
}

} // namespace moe::codegen
