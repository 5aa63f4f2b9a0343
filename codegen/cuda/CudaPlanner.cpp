//===- CudaPlanner.cpp - Choice of blocks, teams and calls on a GPU -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/CudaPlanner.h"

#include "codegen/kernel/Planner.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen::cuda {

namespace {

constexpr int64_t warp = 32;
/// Threads of a block whose threads do not talk to each other.
constexpr unsigned plainThreads = 256;
/// Bytes that one thread moves at a time: the widest access there is.
constexpr unsigned accessBytes = 16;
/// Largest team: a block that reduces one row.
constexpr int64_t maxTeam = 512;
/// Elements of a row that a thread may hold from pass to pass, and registers that it may take for all that it holds.
constexpr int64_t maxHeldElements = 16, maxHeldRegisters = 64;
/// Rows so short that a thread walks a whole one.
constexpr int64_t shortRow = 16;
/// A row is split among blocks when there are fewer rows than this and each has at least so many elements.
constexpr int64_t fewRows = 128, longRow = 32768;
/// Chunks of a split row: at most so many, of at least so many elements.
constexpr int64_t maxRowChunks = 512, minRowChunk = 8192;
/// Parts of the reduced rows of a column reduction: as many as make about this many threads, of at least so many rows.
constexpr int64_t wantedThreads = 132 * 1024, minPartRows = 16, maxParts = 256;

class CudaPlanner final : public Planner {
public:
  explicit CudaPlanner(FusedOp op) : Planner(op, 1), s(strategy), graph(strategy.graph) { s.scalarProducts = true; }

private:
  void planPointwise() override;
  void planReduction(RegionForm form) override;
  /// A value per row is read by all threads of the row's team, at any time, but written by one of them.
  bool allowsInPlace(unsigned number) const override {
    return s.kind == LoopKind::Pointwise || s.kind == LoopKind::Columns || s.team == 1 || isFull(graph.outputs[number]);
  }

  void planRows();
  void planSplitRows();
  void planColumns();
  bool columnsSuit() const;
  void chooseTeam(int64_t rowElements);
  void chooseLanes(unsigned dim);
  void setLanes(unsigned lanes) {
    s.lanes = lanes;
    s.vectorAlignment = lanes > 1 ? accessBytes : 1;
  }
  bool suitsLanes(unsigned dim, int64_t lanes) const;
  bool fits32() const;
  void addLaunch(int64_t blocks, unsigned threads, ArrayRef<NodeId> roots, bool outputs, bool scratch);
  unsigned sharedBytes() const;

  Strategy &s;
  KernelGraph &graph;
};

/// Can `lanes` neighbours along `dim` always be moved at once? All that varies along it must be contiguous, start at a
/// multiple of the lanes, and be there for all lanes or for none.
bool CudaPlanner::suitsLanes(unsigned dim, int64_t lanes) const {
  if (s.sizeOf(dim) % lanes != 0)
    return false;
  uint64_t bit = uint64_t{1} << dim;
  auto isAligned = [&](AffineExpr address) {
    if (graph.coefficient(address, dim) != 1)
      return false;
    SmallVector<AffineExpr> whole(graph.space.numDims());
    whole[dim] = graph.space.mul(graph.space.dimExpr(dim), lanes);
    return graph.space.substitute(address, whole).isMultipleOf(lanes);
  };
  for (const Node &node : graph.nodes) {
    if (!(node.dims & bit))
      continue;
    bool isMemory = node.kind == Node::Kind::Load || node.kind == Node::Kind::Table;
    if (isMemory && ((node.guard != noNode && graph.nodes[node.guard].dims & bit) || !isAligned(node.address)))
      return false;
  }
  return llvm::all_of(graph.outputs,
                      [&](const GraphOutput &output) { return !(output.dims & bit) || isAligned(output.address); });
}

/// As many lanes along `dim` as fill an access of the narrowest element that is moved.
void CudaPlanner::chooseLanes(unsigned dim) {
  unsigned narrowest = 4;
  auto look = [&](Type type) {
    if (type.isF16() || type.isBF16())
      narrowest = 2;
  };
  for (Value input : op.getInputs())
    look(typeOf(input).getElementType());
  for (Value output : op.getOutputs())
    look(typeOf(output).getElementType());
  for (unsigned lanes = accessBytes / narrowest; lanes > 1; lanes /= 2)
    if (suitsLanes(dim, lanes))
      return setLanes(lanes);
  setLanes(1);
}

/// Whether all index arithmetic fits 32 bits, one more block of threads than needed included.
bool CudaPlanner::fits32() const {
  constexpr int64_t limit = INT32_MAX - 2048;
  bool fits = ShapedType::getNumElements(graph.space.dimSizes()) < limit;
  auto look = [&](AffineExpr expr) {
    if (expr)
      expr.walk([&](AffineExpr part) {
        IndexRange range = graph.space.range(part);
        fits &= range.low > -limit && range.high < limit;
      });
  };
  for (const Node &node : graph.nodes) {
    look(node.address);
    fits &= node.low > -limit && node.high < limit;
  }
  for (const GraphOutput &output : graph.outputs)
    look(output.address);
  return fits && s.plan.scratchBytes < static_cast<uint64_t>(limit);
}

/// A slot of 8 bytes per warp and reduction.
unsigned CudaPlanner::sharedBytes() const {
  return s.team <= warp ? 0 : static_cast<unsigned>(graph.reductions.size() * (s.team / warp) * 8);
}

void CudaPlanner::addLaunch(int64_t blocks, unsigned threads, ArrayRef<NodeId> roots, bool outputs, bool scratch) {
  PlannedCall &call = addCall(roots, outputs, scratch);
  call.blocks = static_cast<unsigned>(std::max<int64_t>(1, blocks));
  call.threads = threads;
  call.sharedBytes = sharedBytes();
}

void CudaPlanner::planPointwise() {
  s.kind = LoopKind::Pointwise;
  if (graph.space.numDims() == 0)
    graph.space.setDims({1});
  unsigned last = graph.space.numDims() - 1;
  for (unsigned d = 0; d < last; ++d)
    s.outer.push_back(d);
  s.inner.push_back(last);
  chooseLanes(last);
  s.chunk = s.lanes;
  s.chunks = s.sizeOf(last) / s.lanes;
  addLaunch(llvm::divideCeil(s.outerCount() * s.chunks, plainThreads), plainThreads, outputNodes(), true, false);
  s.indexBits = fits32() ? 32 : 64;
}

/// The smallest team whose threads can hold their share of the row, or the largest one that has work for all.
void CudaPlanner::chooseTeam(int64_t elements) {
  if (elements <= shortRow) {
    s.team = 1;
    s.slots = static_cast<unsigned>(elements / s.lanes);
    return;
  }
  // What is read or drawn for each element, and a result of it.
  int64_t heldNodes =
      1 + llvm::count_if(graph.nodes, [&](const Node &node) {
        return (node.kind == Node::Kind::Load || node.kind == Node::Kind::Random) && (node.dims & graph.reductionDims);
      });
  int64_t mostHeld = std::min(maxHeldElements, maxHeldRegisters / heldNodes);
  unsigned widest = s.lanes;
  for (unsigned lanes = widest; lanes >= 1; lanes /= 2)
    for (int64_t team = warp; team <= maxTeam; team *= 2) {
      int64_t share = elements / lanes / team;
      if (elements % (lanes * team) != 0 || share * lanes > mostHeld || share == 0)
        continue;
      setLanes(lanes);
      s.team = static_cast<unsigned>(team);
      s.slots = static_cast<unsigned>(share);
      return;
    }
  int64_t vectors = elements / s.lanes;
  s.team = static_cast<unsigned>(std::clamp<int64_t>(llvm::bit_floor(static_cast<uint64_t>(vectors)), warp, maxTeam));
}

void CudaPlanner::planRows() {
  s.kind = LoopKind::Rows;
  int64_t elements = 1;
  for (unsigned d : s.inner)
    elements *= s.sizeOf(d);
  chooseLanes(s.inner.back());
  chooseTeam(elements);
  SmallVector<NodeId> roots = outputNodes();
  for (NodeId id : graph.reductions)
    roots.append({id, graph.nodes[id].operands[0]});
  // Several rows share a block only where their threads need no barrier.
  unsigned threads = s.team > warp ? s.team : plainThreads / 2;
  addLaunch(llvm::divideCeil(s.outerCount(), static_cast<int64_t>(threads / s.team)), threads, roots, true, false);
}

void CudaPlanner::planSplitRows() {
  s.kind = LoopKind::SplitRows;
  chooseLanes(s.inner[0]);
  s.team = plainThreads;
  int64_t size = s.sizeOf(s.inner[0]);
  int64_t wanted = std::clamp<int64_t>(size / minRowChunk, 1, maxRowChunks);
  s.chunk = static_cast<int64_t>(llvm::alignTo(llvm::divideCeil(size, wanted), 64));
  s.chunks = llvm::divideCeil(size, s.chunk);
  s.plan.scratchBytes = s.partialBytes(s.outerCount() * s.chunks) * graph.reductions.size();
  addLaunch(s.outerCount() * s.chunks, s.team, reductionOperands(), false, true);
  addLaunch(anyFull() ? s.outerCount() * s.chunks : s.outerCount(), s.team, outputNodes(), true, true);
}

bool CudaPlanner::columnsSuit() const {
  // Neighbouring threads take neighbouring columns: a warp should find 32 of them.
  return !s.outer.empty() && s.stages == 1 && s.sizeOf(s.outer.back()) >= warp;
}

void CudaPlanner::planColumns() {
  s.kind = LoopKind::Columns;
  chooseLanes(s.outer.back());
  s.chunk = s.lanes;
  s.chunks = s.sizeOf(s.outer.back()) / s.lanes;
  int64_t units = s.outerCount() / s.lanes;
  int64_t rows = s.sizeOf(s.inner[0]), rowsInside = 1;
  for (unsigned d : ArrayRef<unsigned>(s.inner).drop_front())
    rowsInside *= s.sizeOf(d);
  int64_t wanted = std::min({wantedThreads / units, rows * rowsInside / minPartRows, maxParts, rows});
  s.partLength = llvm::divideCeil(rows, std::max<int64_t>(wanted, 1));
  s.parts = llvm::divideCeil(rows, s.partLength);
  if (s.parts == 1) {
    SmallVector<NodeId> roots = outputNodes();
    roots.append(reductionOperands());
    addLaunch(llvm::divideCeil(units, plainThreads), plainThreads, roots, true, false);
    return;
  }
  s.plan.scratchBytes = s.partialBytes(s.parts * s.outerCount()) * graph.reductions.size();
  addLaunch(llvm::divideCeil(units * s.parts, plainThreads), plainThreads, reductionOperands(), false, true);
  addLaunch(llvm::divideCeil(units, plainThreads), plainThreads, outputNodes(), true, true);
}

void CudaPlanner::planReduction(RegionForm form) {
  int64_t length = 1;
  for (unsigned d : s.inner)
    length *= s.sizeOf(d);
  if (form == RegionForm::ColumnReduce && columnsSuit())
    planColumns();
  else if (s.stages == 1 && s.inner.size() == 1 && s.outerCount() < fewRows && length >= longRow)
    planSplitRows();
  else
    planRows();
  s.indexBits = fits32() ? 32 : 64;
}

} // namespace

FailureOr<Strategy> chooseStrategy(FusedOp op) {
  return CudaPlanner(op).run();
}

} // namespace moe::codegen::cuda
