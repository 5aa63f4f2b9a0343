//===- Planner.cpp - What all targets decide alike about a region -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/kernel/Planner.h"

#include "codegen/kernel/RandomKeys.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

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

} // namespace

int64_t Strategy::outerCount() const {
  int64_t count = 1;
  for (unsigned d : outer)
    count *= sizeOf(d);
  return count;
}

unsigned Strategy::partialWidth() const {
  return llvm::any_of(graph.reductions, [&](NodeId id) { return graph.nodes[id].type.isInteger(64); }) ? 8 : 4;
}

Planner::Planner(FusedOp op, unsigned lanes) : op(op), strategy(op.getContext()) {
  strategy.lanes = lanes;
  strategy.plan.emitter = op.getEmitter().str();
  strategy.plan.numbers = randomKeys(op);
}

SmallVector<NodeId> Planner::outputNodes() const {
  SmallVector<NodeId> nodes;
  for (const GraphOutput &output : strategy.graph.outputs)
    nodes.push_back(output.node);
  return nodes;
}

SmallVector<NodeId> Planner::reductionOperands() const {
  SmallVector<NodeId> nodes;
  for (NodeId id : strategy.graph.reductions)
    nodes.push_back(strategy.graph.nodes[id].operands[0]);
  return nodes;
}

bool Planner::anyFull() const {
  return llvm::any_of(strategy.graph.outputs, [&](const GraphOutput &output) { return isFull(output); });
}

PlannedCall &Planner::addCall(ArrayRef<NodeId> roots, bool outputs, bool scratch) {
  const KernelGraph &graph = strategy.graph;
  PlannedCall call;
  std::vector<bool> needed = neededBy(graph, roots);
  SmallVector<bool> reads(op.getInputs().size());
  nodeCount = 0;
  for (auto [id, node] : llvm::enumerate(graph.nodes)) {
    nodeCount += needed[id];
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
  return strategy.plan.calls.emplace_back(std::move(call));
}

void Planner::flattenIfNarrow(int64_t least) {
  KernelGraph &graph = strategy.graph;
  IndexSpace &space = graph.space;
  if (space.numDims() < 2 || space.dimSize(space.numDims() - 1) > least)
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

void Planner::findInPlace() {
  const KernelGraph &graph = strategy.graph;
  for (auto [o, output] : llvm::enumerate(graph.outputs)) {
    if (!allowsInPlace(static_cast<unsigned>(o)))
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
        strategy.plan.inPlace.push_back({static_cast<unsigned>(o), i});
    }
  }
}

Cost Planner::cost() const {
  const KernelGraph &graph = strategy.graph;
  Cost cost;
  int64_t points = 1;
  for (int64_t size : graph.space.dimSizes())
    points *= size;
  for (const Node &node : graph.nodes)
    if (node.kind == Node::Kind::Map || node.kind == Node::Kind::Reduce) {
      bool perRow = !(node.dims & graph.reductionDims) && node.kind == Node::Kind::Map && strategy.stages > 0;
      cost.flops += static_cast<double>(perRow ? strategy.outerCount() : points);
    }
  cost.bytes = bytesMoved(op);
  return cost;
}

FailureOr<Strategy> Planner::run() {
  FailureOr<KernelGraph> built = buildKernelGraph(op);
  if (failed(built))
    return failure();
  KernelGraph &graph = strategy.graph = std::move(*built);
  IndexSpace &space = graph.space;
  uint64_t barriers = 0;
  for (unsigned d = 0; d + 1 < space.numDims(); ++d)
    if (((graph.reductionDims >> d) ^ (graph.reductionDims >> (d + 1))) & 1)
      barriers |= bit(d);
  graph.collapse(barriers);
  for (NodeId id : graph.reductions)
    strategy.stages = std::max(strategy.stages, graph.nodes[id].stage);
  if (graph.reductions.empty()) {
    graph.reductionDims = 0;
    graph.collapse(0);
    planPointwise();
  } else {
    for (unsigned d = 0; d < space.numDims(); ++d)
      (graph.reductionDims & bit(d) ? strategy.inner : strategy.outer).push_back(d);
    planReduction(*formOf(op.getEmitter()));
  }
  findInPlace();
  strategy.plan.cost = cost();
  return std::move(strategy);
}

} // namespace moe::codegen
