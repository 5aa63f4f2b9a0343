//===- KernelGraph.cpp - Dependences and the collapse of dimensions ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/KernelGraph.h"

using namespace mlir;

namespace moe::codegen {

uint64_t KernelGraph::dimsOf(AffineExpr expr) const {
  uint64_t bits = 0;
  expr.walk([&](AffineExpr part) {
    if (auto dim = dyn_cast<AffineDimExpr>(part))
      bits |= uint64_t{1} << dim.getPosition();
    else if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
      bits |= nodes[symbolNodes[symbol.getPosition()]].dims;
  });
  return bits;
}

unsigned KernelGraph::stageOf(AffineExpr expr) const {
  unsigned stage = 0;
  expr.walk([&](AffineExpr part) {
    if (auto symbol = dyn_cast<AffineSymbolExpr>(part))
      stage = std::max(stage, nodes[symbolNodes[symbol.getPosition()]].stage);
  });
  return stage;
}

std::optional<int64_t> KernelGraph::coefficient(AffineExpr expr, unsigned dim) const {
  return IndexSpace::coefficient(
      expr, dim, [&](unsigned symbol) { return (nodes[symbolNodes[symbol]].dims & (uint64_t{1} << dim)) != 0; });
}

void KernelGraph::recomputeDims() {
  for (Node &node : nodes) {
    node.dims = 0;
    if (node.address)
      node.dims |= dimsOf(node.address);
    if (node.guard != noNode)
      node.dims |= nodes[node.guard].dims;
    for (NodeId operand : node.operands)
      node.dims |= nodes[operand].dims;
    if (node.kind == Node::Kind::Reduce)
      node.dims &= ~reductionDims;
  }
  for (GraphOutput &output : outputs)
    output.dims = dimsOf(output.address);
}

bool KernelGraph::mergeable(unsigned dim) const {
  int64_t size = space.dimSize(dim + 1);
  auto agrees = [&](AffineExpr expr) {
    std::optional<int64_t> outer = coefficient(expr, dim), inner = coefficient(expr, dim + 1);
    return outer && inner && *outer == *inner * size;
  };
  for (const Node &node : nodes)
    if (node.address && !agrees(node.address))
      return false;
  for (const GraphOutput &output : outputs)
    if (!agrees(output.address))
      return false;
  return true;
}

void KernelGraph::substitute(ArrayRef<AffineExpr> replacements) {
  for (Node &node : nodes)
    if (node.address)
      node.address = space.substitute(node.address, replacements);
  for (GraphOutput &output : outputs)
    output.address = space.substitute(output.address, replacements);
  recomputeDims();
}

void KernelGraph::compact(uint64_t &barriers) {
  SmallVector<AffineExpr> replacements;
  SmallVector<int64_t> sizes;
  uint64_t newBarriers = 0, newReductions = 0;
  for (unsigned d = 0; d < space.numDims(); ++d) {
    uint64_t bit = uint64_t{1} << d;
    if (space.dimSize(d) == 1) {
      // A barrier behind a vanishing dimension moves to the dimension before.
      if ((barriers & bit) && !sizes.empty())
        newBarriers |= uint64_t{1} << (sizes.size() - 1);
      replacements.push_back(space.constant(0));
      continue;
    }
    uint64_t newBit = uint64_t{1} << sizes.size();
    if (barriers & bit)
      newBarriers |= newBit;
    if (reductionDims & bit)
      newReductions |= newBit;
    replacements.push_back(space.dimExpr(sizes.size()));
    sizes.push_back(space.dimSize(d));
  }
  space.setDims(sizes);
  for (Node &node : nodes)
    if (node.address)
      node.address = node.address.replaceDims(replacements);
  for (GraphOutput &output : outputs)
    output.address = output.address.replaceDims(replacements);
  barriers = newBarriers;
  reductionDims = newReductions;
  recomputeDims();
}

void KernelGraph::collapse(uint64_t barriers) {
  compact(barriers);
  for (unsigned inner = space.numDims(); inner-- > 1;) {
    unsigned outer = inner - 1;
    if ((barriers & (uint64_t{1} << outer)) || !mergeable(outer))
      continue;
    SmallVector<AffineExpr> replacements(space.numDims());
    replacements[outer] = space.constant(0);
    space.setDimSize(inner, space.dimSize(inner) * space.dimSize(outer));
    space.setDimSize(outer, 1);
    substitute(replacements);
    // The merged dimension moves to position `outer`, the next one to look at.
    compact(barriers);
  }
}

} // namespace moe::codegen
