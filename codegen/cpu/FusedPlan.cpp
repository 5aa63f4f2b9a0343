//===- FusedPlan.cpp - Choice of loops, chunks and calls --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/FusedPlan.h"

#include "codegen/analysis/RegionBuilder.h"
#include "codegen/cpu/Strategy.h"
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

uint64_t bit(unsigned dim) {
  return uint64_t{1} << dim;
}

/// Marks what `roots` need; reductions are needed but not entered unless they are roots' operands themselves.
void mark(const KernelGraph &graph, NodeId id, std::vector<bool> &needed) {
  if (id == noNode || needed[id])
    return;
  needed[id] = true;
  const Node &node = graph.nodes[id];
  if (node.kind == Node::Kind::Reduce)
    return;
  for (NodeId operand : node.operands)
    mark(graph, operand, needed);
  mark(graph, node.guard, needed);
  if (node.address)
    node.address.walk([&](AffineExpr part) {
      if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
        mark(graph, graph.symbolNodes[symbol.getPosition()], needed);
    });
}

std::vector<bool> neededBy(const KernelGraph &graph, ArrayRef<NodeId> roots) {
  std::vector<bool> needed(graph.nodes.size());
  for (NodeId root : roots)
    mark(graph, root, needed);
  return needed;
}

class Planner {
public:
  Planner(FusedOp op, Strategy &strategy) : op(op), s(strategy), graph(strategy.graph) {}

  void plan(RegionForm form);

private:
  void planPointwise();
  void planRows();
  void planSplitRows();
  void planColumns();
  bool columnsSuit() const;
  void flattenIfNarrow();
  int transposedDim() const;
  void addCall(int64_t extent, ArrayRef<NodeId> roots, bool outputs, bool scratch);
  void findInPlace();
  int64_t grainFor(int64_t elementsPerUnit, size_t nodes) const;

  SmallVector<NodeId> outputNodes() const {
    SmallVector<NodeId> nodes;
    for (const GraphOutput &output : graph.outputs)
      nodes.push_back(output.node);
    return nodes;
  }
  SmallVector<NodeId> reductionOperands() const {
    SmallVector<NodeId> nodes;
    for (NodeId id : graph.reductions)
      nodes.push_back(graph.nodes[id].operands[0]);
    return nodes;
  }

  FusedOp op;
  Strategy &s;
  KernelGraph &graph;
  int64_t elementsPerUnit = 1;
};

int64_t Planner::grainFor(int64_t elements, size_t nodes) const {
  int64_t work = std::max<int64_t>(1, elements) * static_cast<int64_t>(std::max<size_t>(1, nodes));
  return std::max<int64_t>(1, grainWork / work);
}

void Planner::addCall(int64_t extent, ArrayRef<NodeId> roots, bool outputs, bool scratch) {
  PlannedCall call;
  std::vector<bool> needed = neededBy(graph, roots);
  SmallVector<bool> reads(op.getInputs().size());
  size_t count = 0;
  for (auto [id, node] : llvm::enumerate(graph.nodes)) {
    count += needed[id];
    if (needed[id] && node.kind == Node::Kind::Load)
      reads[node.input] = true;
  }
  for (auto [input, isRead] : llvm::enumerate(reads))
    if (isRead)
      call.operands.push_back({PlannedOperand::Kind::Input, static_cast<unsigned>(input)});
  if (outputs)
    for (unsigned i = 0; i < graph.outputs.size(); ++i)
      call.operands.push_back({PlannedOperand::Kind::Output, i});
  if (scratch)
    call.operands.push_back({PlannedOperand::Kind::Scratch, 0});
  call.extent = extent;
  call.grain = std::min(extent, grainFor(elementsPerUnit, count));
  s.plan.calls.push_back(std::move(call));
}

void Planner::flattenIfNarrow() {
  IndexSpace &space = graph.space;
  if (space.numDims() < 2 || space.dimSize(space.numDims() - 1) * 2 > static_cast<int64_t>(s.lanes))
    return;
  // A narrow innermost dimension would leave most lanes idle: one dimension over everything, and gathers.
  SmallVector<int64_t> sizes(space.dimSizes());
  unsigned last = space.numDims() - 1;
  space.setDimSize(last, ShapedType::getNumElements(sizes));
  SmallVector<AffineExpr> index = space.delinearize(space.dimExpr(last), sizes);
  graph.substitute(index);
  for (unsigned d = 0; d < last; ++d)
    space.setDimSize(d, 1);
  graph.collapse(0);
}

/// The outer dimension along which a load is contiguous that strides along the innermost one; -1 if there is none.
int Planner::transposedDim() const {
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

void Planner::planPointwise() {
  s.kind = LoopKind::Pointwise;
  flattenIfNarrow();
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
  addCall(s.outerCount() * s.tiles * s.chunks, outputNodes(), true, false);
}

void Planner::planRows() {
  s.kind = LoopKind::Rows;
  for (unsigned d : s.inner)
    elementsPerUnit *= s.sizeOf(d);
  SmallVector<NodeId> roots = outputNodes();
  for (NodeId id : graph.reductions)
    roots.append({id, graph.nodes[id].operands[0]});
  addCall(s.outerCount(), roots, true, false);
}

void Planner::planSplitRows() {
  s.kind = LoopKind::SplitRows;
  int64_t size = s.sizeOf(s.inner[0]);
  int64_t wanted = std::min(maxRowChunks, size / minRowChunk);
  s.chunk = llvm::alignTo(llvm::divideCeil(size, wanted), 64);
  s.chunks = llvm::divideCeil(size, s.chunk);
  elementsPerUnit = s.chunk;
  s.plan.scratchBytes = partialBytes(s.outerCount() * s.chunks) * graph.reductions.size();
  addCall(s.outerCount() * s.chunks, reductionOperands(), false, true);
  bool full = llvm::any_of(graph.outputs, [&](const GraphOutput &output) { return output.dims & graph.reductionDims; });
  if (!full)
    elementsPerUnit = s.chunks;
  addCall(full ? s.outerCount() * s.chunks : s.outerCount(), outputNodes(), true, true);
}

bool Planner::columnsSuit() const {
  if (s.outer.empty() || s.stages != 1)
    return false;
  unsigned last = s.outer.back();
  return s.sizeOf(last) * 2 > static_cast<int64_t>(s.lanes);
}

void Planner::planColumns() {
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
  s.plan.scratchBytes = partialBytes(s.parts * s.outerCount()) * graph.reductions.size();
  elementsPerUnit = s.partLength * rowsInside * std::min(columns, s.chunk);
  if (s.parts == 1) {
    SmallVector<NodeId> roots = outputNodes();
    roots.append(reductionOperands());
    addCall(units, roots, true, true);
    return;
  }
  addCall(units * s.parts, reductionOperands(), false, true);
  elementsPerUnit = s.parts * std::min(columns, s.chunk);
  addCall(units, outputNodes(), true, true);
}

void Planner::findInPlace() {
  bool anyFull =
      llvm::any_of(graph.outputs, [&](const GraphOutput &output) { return output.dims & graph.reductionDims; });
  for (auto [o, output] : llvm::enumerate(graph.outputs)) {
    // Every unit of a split row reads what belongs to the whole row, at any time.
    if (s.kind == LoopKind::SplitRows && anyFull && !(output.dims & graph.reductionDims))
      continue;
    RankedTensorType outputType = typeOf(op.getOutputs()[o]);
    for (unsigned i = 0; i < op.getInputs().size(); ++i) {
      RankedTensorType inputType = typeOf(op.getInputs()[i]);
      bool isRead = false, fits = inputType.getElementType() == outputType.getElementType() &&
                                  inputType.getNumElements() == outputType.getNumElements();
      for (const Node &node : graph.nodes)
        if (node.kind == Node::Kind::Load && node.input == static_cast<int>(i)) {
          isRead = true;
          fits &= node.address == output.address;
        }
      if (fits && isRead)
        s.plan.inPlace.push_back({static_cast<unsigned>(o), i});
    }
  }
}

void Planner::plan(RegionForm form) {
  IndexSpace &space = graph.space;
  uint64_t barriers = 0;
  for (unsigned d = 0; d + 1 < space.numDims(); ++d)
    if (((graph.reductionDims >> d) ^ (graph.reductionDims >> (d + 1))) & 1)
      barriers |= bit(d);
  graph.collapse(barriers);
  for (NodeId id : graph.reductions)
    s.stages = std::max(s.stages, graph.nodes[id].stage);
  if (graph.reductions.empty()) {
    graph.reductionDims = 0;
    graph.collapse(0);
    planPointwise();
  } else {
    for (unsigned d = 0; d < space.numDims(); ++d)
      (graph.reductionDims & bit(d) ? s.inner : s.outer).push_back(d);
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
  findInPlace();
}

Cost costOf(FusedOp op, const Strategy &s) {
  Cost cost;
  int64_t points = 1;
  for (int64_t size : s.graph.space.dimSizes())
    points *= size;
  for (const Node &node : s.graph.nodes)
    if (node.kind == Node::Kind::Map || node.kind == Node::Kind::Reduce) {
      bool perRow = !(node.dims & s.graph.reductionDims) && node.kind == Node::Kind::Map && s.stages > 0;
      cost.flops += static_cast<double>(perRow ? s.outerCount() : points);
    }
  cost.bytes = bytesMoved(op);
  return cost;
}

} // namespace

int64_t Strategy::outerCount() const {
  int64_t count = 1;
  for (unsigned d : outer)
    count *= sizeOf(d);
  return count;
}

FailureOr<Strategy> chooseStrategy(FusedOp op, unsigned vectorBits) {
  FailureOr<KernelGraph> graph = buildKernelGraph(op);
  if (failed(graph))
    return failure();
  Strategy strategy(op.getContext());
  strategy.graph = std::move(*graph);
  strategy.lanes = vectorBits / 32;
  strategy.plan.emitter = op.getEmitter().str();
  Planner(op, strategy).plan(*formOf(op.getEmitter()));
  strategy.plan.cost = costOf(op, strategy);
  return std::move(strategy);
}

FailureOr<FusedPlan> planFused(FusedOp op, unsigned vectorBits) {
  FailureOr<Strategy> strategy = chooseStrategy(op, vectorBits);
  if (failed(strategy))
    return failure();
  return std::move(strategy->plan);
}

} // namespace moe::codegen
