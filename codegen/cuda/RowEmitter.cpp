//===- RowEmitter.cpp - A team of threads per row -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A team is one thread, one warp or one block; thread i of it takes vectors i, i + team, … of the row. Partial results
// are combined by shuffles within a warp, then in the order of warps through shared memory: every thread of the team
// ends up with the same bits. Where a thread's share of the row is known to fit, it stays in registers from one pass to
// the next: each vector ("slot") has a scope of its own that remembers what was computed for it.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/CudaEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace moe::codegen::cuda {

namespace {

constexpr unsigned warp = 32;

class Team {
public:
  /// `member` is the thread's number within its team.
  Team(NodeEmitter &e, ThreadContext &t, Value member) : e(e), t(t), s(e.strategy), graph(e.graph), member(member) {
    for (const GraphOutput &output : graph.outputs)
      (output.dims & graph.reductionDims ? full : perRow).push_back(&output);
    for (const GraphOutput *output : full)
      lastStage = std::max(lastStage, graph.nodes[output->node].stage);
  }

  bool hasFull() const { return !full.empty(); }
  SmallVector<NodeId> reductionsOf(unsigned stage) const;

  /// Runs `body` for the thread's vectors among [low, high) of the space of the inner dimensions.
  Values forVectors(Value low, Value high, Values carried, const Scope &scope,
                    llvm::function_ref<void(Scope &, Values &)> body);
  /// Runs `body` for the thread's slots, each with its scope.
  void forSlots(llvm::function_ref<void(Scope &)> body) {
    for (Scope &slot : slots)
      body(slot);
  }
  void openSlots(const Scope &scope);

  /// The thread's own part of the reductions `ids` over [low, high), or over its slots.
  Values accumulate(ArrayRef<NodeId> ids, Value low, Value high, const Scope &scope);
  /// Combines the threads' parts; all threads get the results. Each reduction may pass here once per kernel.
  void combine(ArrayRef<NodeId> ids, Values &values);
  void storeFull(Value low, Value high, const Scope &scope);
  /// By the first thread of the team.
  void storePerRow(Scope &scope);

private:
  void store(ArrayRef<const GraphOutput *> outputs, Scope &scope);
  void add(ArrayRef<NodeId> ids, Scope &scope, Values &values);

  NodeEmitter &e;
  ThreadContext &t;
  const Strategy &s;
  const KernelGraph &graph;
  Value member;
  SmallVector<const GraphOutput *> full, perRow;
  SmallVector<Scope> slots;
  unsigned lastStage = 0;
};

SmallVector<NodeId> Team::reductionsOf(unsigned stage) const {
  SmallVector<NodeId> ids;
  for (NodeId id : graph.reductions)
    if (graph.nodes[id].stage == stage)
      ids.push_back(id);
  return ids;
}

Values Team::forVectors(Value low, Value high, Values carried, const Scope &scope,
                        llvm::function_ref<void(Scope &, Values &)> body) {
  Value first = arith::AddIOp::create(e.b, low, member);
  return forLoop(e, first, high, s.team, std::move(carried), [&](Value vector, Values &values) {
    Scope inner = scope;
    openVector(e, s.inner, vector, inner);
    body(inner, values);
  });
}

void Team::openSlots(const Scope &scope) {
  for (unsigned slot = 0; slot < s.slots; ++slot) {
    Scope &mine = slots.emplace_back(scope);
    Value vector = member;
    if (slot > 0)
      vector = arith::AddIOp::create(e.b, member, e.constant(static_cast<int64_t>(slot) * s.team));
    openVector(e, s.inner, vector, mine);
  }
}

void Team::add(ArrayRef<NodeId> ids, Scope &scope, Values &values) {
  for (auto [id, value] : llvm::zip(ids, values))
    value = e.combine(graph.nodes[id], value, e.vectorNode(graph.nodes[id].operands[0], scope));
}

Values Team::accumulate(ArrayRef<NodeId> ids, Value low, Value high, const Scope &scope) {
  Values values;
  for (NodeId id : ids)
    values.push_back(e.identity(graph.nodes[id], s.lanes > 1));
  if (slots.empty())
    values = forVectors(low, high, values, scope, [&](Scope &inner, Values &current) { add(ids, inner, current); });
  else
    forSlots([&](Scope &slot) { add(ids, slot, values); });
  if (s.lanes > 1)
    for (auto [id, value] : llvm::zip(ids, values))
      value = e.combineLanes(graph.nodes[id], value);
  return values;
}

void Team::combine(ArrayRef<NodeId> ids, Values &values) {
  if (s.team == 1)
    return;
  for (auto [id, value] : llvm::zip(ids, values))
    for (unsigned mask = warp / 2; mask >= 1; mask /= 2)
      value = e.combine(graph.nodes[id], value, t.shuffleXor(value, mask));
  unsigned warps = s.team / warp;
  if (warps == 1)
    return;
  auto slot = [&](NodeId id, Value number) {
    int64_t first = (llvm::find(graph.reductions, id) - graph.reductions.begin()) * static_cast<int64_t>(warps);
    return t.sharedSlot(arith::AddIOp::create(e.b, number, e.constant(first)));
  };
  Value isFirstLane = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, remainder(e, member, warp), e.constant(0));
  ifThen(e, isFirstLane, [&] {
    for (auto [id, value] : llvm::zip(ids, values))
      e.storeRaw(toPartial(e, value), slot(id, divide(e, member, warp)), 8);
  });
  t.barrier();
  for (auto [id, value] : llvm::zip(ids, values))
    for (unsigned number = 0; number < warps; ++number) {
      Value part = fromPartial(e, e.loadRaw(partialType(e, id), slot(id, e.constant(number)), 8), id);
      value = number == 0 ? part : e.combine(graph.nodes[id], value, part);
    }
}

void Team::store(ArrayRef<const GraphOutput *> outputs, Scope &scope) {
  for (const GraphOutput *output : outputs)
    e.node(output->node, scope);
  for (const GraphOutput *output : outputs)
    e.store(*output, static_cast<unsigned>(output - graph.outputs.data()), scope);
}

void Team::storeFull(Value low, Value high, const Scope &scope) {
  if (!slots.empty())
    return forSlots([&](Scope &slot) { store(full, slot); });
  forVectors(low, high, {}, scope, [&](Scope &inner, Values &) { store(full, inner); });
}

void Team::storePerRow(Scope &scope) {
  if (perRow.empty())
    return;
  if (s.team == 1)
    return store(perRow, scope);
  Value isFirst = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, member, e.constant(0));
  ifThen(e, isFirst, [&] {
    Scope mine = scope;
    store(perRow, mine);
  });
}

int64_t vectorsOf(const Strategy &s) {
  int64_t elements = 1;
  for (unsigned dim : s.inner)
    elements *= s.sizeOf(dim);
  return elements / s.lanes;
}

} // namespace

void emitRows(NodeEmitter &e, ThreadContext &t, unsigned threads) {
  const Strategy &s = e.strategy;
  int64_t rowsPerBlock = threads / s.team, rows = s.outerCount();
  Value row = t.block(), member = t.thread();
  if (rowsPerBlock > 1) {
    row = divide(e, t.global(), s.team);
    member = remainder(e, t.thread(), s.team);
  }
  auto work = [&] {
    Scope scope = outerScope(e);
    setDims(e, s.outer, row, scope);
    Team team(e, t, member);
    team.openSlots(scope);
    Value none = e.constant(0), all = e.constant(vectorsOf(s));
    for (unsigned stage = 1; stage <= s.stages; ++stage) {
      SmallVector<NodeId> ids = team.reductionsOf(stage);
      Values results = team.accumulate(ids, none, all, scope);
      team.combine(ids, results);
      for (auto [id, result] : llvm::zip(ids, results)) {
        scope.values[id] = result;
        team.forSlots([&](Scope &slot) { slot.values[id] = result; });
      }
    }
    if (team.hasFull())
      team.storeFull(none, all, scope);
    team.storePerRow(scope);
  };
  // Uniform in a warp, and there is no barrier where a block has several rows.
  if (rows % rowsPerBlock == 0)
    work();
  else
    ifThen(e, isBelow(e, row, rows), work);
}

void emitSplitRows(NodeEmitter &e, ThreadContext &t, unsigned call) {
  const Strategy &s = e.strategy;
  Team team(e, t, t.thread());
  SmallVector<NodeId> ids = team.reductionsOf(1);
  int64_t count = s.outerCount() * s.chunks;
  auto partial = [&](size_t reduction, Value position) {
    return e.partialPointer(static_cast<unsigned>(reduction), position, count, s.partialWidth());
  };
  bool byChunk = call == 0 || team.hasFull();
  Value row = byChunk ? divide(e, t.block(), s.chunks) : t.block();
  Value chunk = byChunk ? remainder(e, t.block(), s.chunks) : e.constant(0);
  Value low = arith::MulIOp::create(e.b, chunk, e.constant(s.chunk / s.lanes));
  Value high = arith::AddIOp::create(e.b, low, e.constant(s.chunk / s.lanes));
  high = arith::MinSIOp::create(e.b, high, e.constant(vectorsOf(s)));
  Scope scope = outerScope(e);
  setDims(e, s.outer, row, scope);
  if (call == 0) {
    Values results = team.accumulate(ids, low, high, scope);
    team.combine(ids, results);
    Value isFirst = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, t.thread(), e.constant(0));
    return ifThen(e, isFirst, [&] {
      for (auto [position, result] : llvm::enumerate(results))
        e.storeRaw(toPartial(e, result), partial(position, t.block()), s.partialWidth());
    });
  }
  // With full outputs every block combines the partial results anew, in the same order; the first block of a row stores
  // what belongs to the row.
  Value first = arith::MulIOp::create(e.b, row, e.constant(s.chunks));
  Values sums;
  for (NodeId id : ids)
    sums.push_back(e.identity(e.graph.nodes[id], false));
  sums = forLoop(e, t.thread(), e.constant(s.chunks), s.team, sums, [&](Value position, Values &values) {
    Value element = arith::AddIOp::create(e.b, first, position);
    for (auto [reduction, value] : llvm::enumerate(values)) {
      NodeId id = ids[reduction];
      Value part = e.loadRaw(partialType(e, id), partial(reduction, element), s.partialWidth());
      value = e.combine(e.graph.nodes[id], value, fromPartial(e, part, id));
    }
  });
  team.combine(ids, sums);
  for (auto [id, sum] : llvm::zip(ids, sums))
    scope.values[id] = sum;
  if (!team.hasFull())
    return team.storePerRow(scope);
  team.storeFull(low, high, scope);
  Value isFirst = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, chunk, e.constant(0));
  ifThen(e, isFirst, [&] { team.storePerRow(scope); });
}

} // namespace moe::codegen::cuda
