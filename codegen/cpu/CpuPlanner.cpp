//===- CpuPlanner.cpp - Choice of loops, chunks and calls on a CPU ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/CpuPlanner.h"

#include "codegen/kernel/Planner.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

/// Elements of the innermost dimension per unit: long enough to hide the start of a unit, short enough for four threads
/// to share a small tensor.
constexpr int64_t pointwiseChunk = 4096;
/// A row is split among threads when there are fewer rows than this and each has at least so many elements.
constexpr int64_t fewRows = 32, longRow = 65536;
/// Chunks of a split row: at most so many, of at least so many elements.
constexpr int64_t maxRowChunks = 64, minRowChunk = 16384;
/// Columns per block (16 KiB of float32 partial sums stay in the first-level cache).
constexpr int64_t columnBlock = 2048;
/// Parts of the reduced rows: at most so many, of at least so many rows, and only while there are fewer units than
/// this.
constexpr int64_t maxParts = 32, minPartRows = 32, enoughUnits = 32;
/// Work that pays for waking a thread, in elements of a node.
constexpr int64_t grainWork = 65536;

class CpuPlanner final : public Planner {
public:
  CpuPlanner(FusedOp op, unsigned vectorBits) : Planner(op, vectorBits / 32), s(strategy), graph(strategy.graph) {}

private:
  void planPointwise() override;
  void planReduction(RegionForm form) override;
  bool allowsInPlace(unsigned number) const override {
    // Every unit of a split row reads what belongs to the whole row, at any time.
    return s.kind != LoopKind::SplitRows || !anyFull() || isFull(graph.outputs[number]);
  }

  void planRows();
  void planSplitRows();
  void planColumns();
  bool columnsSuit() const;
  int transposedDim() const;
  void addUnits(int64_t extent, ArrayRef<NodeId> roots, bool outputs, bool scratch);

  Strategy &s;
  KernelGraph &graph;
  int64_t elementsPerUnit = 1;
};

void CpuPlanner::addUnits(int64_t extent, ArrayRef<NodeId> roots, bool outputs, bool scratch) {
  PlannedCall &call = addCall(roots, outputs, scratch);
  int64_t work = std::max<int64_t>(1, elementsPerUnit) * static_cast<int64_t>(std::max<size_t>(1, nodesOfCall()));
  call.extent = extent;
  call.grain = std::min(extent, std::max<int64_t>(1, grainWork / work));
}

/// The outer dimension along which a load is contiguous that strides along the innermost one; -1 if there is none.
int CpuPlanner::transposedDim() const {
  unsigned last = graph.space.numDims() - 1;
  for (const Node &node : graph.nodes) {
    if (node.kind != Node::Kind::Load || graph.coefficient(node.address, last).value_or(0) <= 1)
      continue;
    for (unsigned d = 0; d < last; ++d)
      if (graph.coefficient(node.address, d) == 1 && s.sizeOf(d) > 1)
        return static_cast<int>(d);
  }
  return -1;
}

void CpuPlanner::planPointwise() {
  s.kind = LoopKind::Pointwise;
  flattenIfNarrow(s.lanes / 2);
  if (graph.space.numDims() == 0)
    graph.space.setDims({1});
  unsigned last = graph.space.numDims() - 1;
  s.tileDim = transposedDim();
  for (unsigned d = 0; d < last; ++d)
    if (static_cast<int>(d) != s.tileDim)
      s.outer.push_back(d);
  s.inner.push_back(last);
  int64_t size = s.sizeOf(last), rows = 1;
  if (s.tileDim >= 0) {
    rows = std::min(s.tileLength, s.sizeOf(s.tileDim));
    s.tiles = llvm::divideCeil(s.sizeOf(s.tileDim), s.tileLength);
  }
  s.chunk = std::min<int64_t>(pointwiseChunk / rows, llvm::alignTo(size, s.lanes));
  s.chunk = llvm::alignTo(s.chunk, s.lanes);
  s.chunks = llvm::divideCeil(size, s.chunk);
  elementsPerUnit = std::min(size, s.chunk) * rows;
  addUnits(s.outerCount() * s.tiles * s.chunks, outputNodes(), true, false);
}

void CpuPlanner::planRows() {
  s.kind = LoopKind::Rows;
  for (unsigned d : s.inner)
    elementsPerUnit *= s.sizeOf(d);
  SmallVector<NodeId> roots = outputNodes();
  for (NodeId id : graph.reductions)
    roots.append({id, graph.nodes[id].operands[0]});
  addUnits(s.outerCount(), roots, true, false);
}

void CpuPlanner::planSplitRows() {
  s.kind = LoopKind::SplitRows;
  int64_t size = s.sizeOf(s.inner[0]);
  int64_t wanted = std::min(maxRowChunks, size / minRowChunk);
  s.chunk = llvm::alignTo(llvm::divideCeil(size, wanted), 64);
  s.chunks = llvm::divideCeil(size, s.chunk);
  elementsPerUnit = s.chunk;
  s.plan.scratchBytes = s.partialBytes(s.outerCount() * s.chunks) * graph.reductions.size();
  addUnits(s.outerCount() * s.chunks, reductionOperands(), false, true);
  bool full = anyFull();
  if (!full)
    elementsPerUnit = s.chunks;
  addUnits(full ? s.outerCount() * s.chunks : s.outerCount(), outputNodes(), true, true);
}

bool CpuPlanner::columnsSuit() const {
  if (s.outer.empty() || s.stages != 1)
    return false;
  unsigned last = s.outer.back();
  return s.sizeOf(last) * 2 > static_cast<int64_t>(s.lanes);
}

void CpuPlanner::planColumns() {
  s.kind = LoopKind::Columns;
  int64_t columns = s.sizeOf(s.outer.back()), units = s.outerCount() / columns;
  s.chunk = std::min<int64_t>(columnBlock, llvm::alignTo(columns, s.lanes));
  s.chunks = llvm::divideCeil(columns, s.chunk);
  units *= s.chunks;
  int64_t rows = s.sizeOf(s.inner[0]), rowsInside = 1;
  for (unsigned d : ArrayRef<unsigned>(s.inner).drop_front())
    rowsInside *= s.sizeOf(d);
  int64_t wanted = units >= enoughUnits ? 1 : std::min(maxParts, rows * rowsInside / minPartRows);
  wanted = std::clamp<int64_t>(wanted, 1, rows);
  s.partLength = llvm::divideCeil(rows, wanted);
  s.parts = llvm::divideCeil(rows, s.partLength);
  s.plan.scratchBytes = s.partialBytes(s.parts * s.outerCount()) * graph.reductions.size();
  elementsPerUnit = s.partLength * rowsInside * std::min(columns, s.chunk);
  if (s.parts == 1) {
    SmallVector<NodeId> roots = outputNodes();
    roots.append(reductionOperands());
    addUnits(units, roots, true, true);
    return;
  }
  addUnits(units * s.parts, reductionOperands(), false, true);
  elementsPerUnit = s.parts * std::min(columns, s.chunk);
  addUnits(units, outputNodes(), true, true);
}

void CpuPlanner::planReduction(RegionForm form) {
  int64_t length = 1;
  for (unsigned d : s.inner)
    length *= s.sizeOf(d);
  if (form == RegionForm::ColumnReduce && columnsSuit())
    planColumns();
  else if (s.stages == 1 && s.inner.size() == 1 && s.outerCount() < fewRows && length >= longRow)
    planSplitRows();
  else
    planRows();
}

} // namespace

FailureOr<Strategy> chooseCpuStrategy(FusedOp op, unsigned vectorBits) {
  return CpuPlanner(op, vectorBits).run();
}

} // namespace moe::codegen
