//===- Planner.h - What all targets decide alike about a region ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_PLANNER_H
#define MOEC_CODEGEN_KERNEL_PLANNER_H

#include "codegen/analysis/RegionBuilder.h"
#include "codegen/kernel/Strategy.h"

namespace moe::codegen {

/// Fills the strategy of one region. A target derives its own planner, which chooses loops, chunks and calls.
class Planner {
public:
  /// Builds the graph of `op`, collapses its dimensions, calls the hooks below and finds in-place pairs and cost. Fails
  /// with a diagnostic.
  mlir::FailureOr<Strategy> run();

protected:
  Planner(ir::FusedOp op, unsigned lanes);
  virtual ~Planner() = default;

  // Hooks: fill `strategy` and call addCall for each kernel call. Before the last two, `outer` holds the dimensions
  // that stay and `inner` those that are reduced.
  virtual void planPointwise() = 0;
  virtual void planReduction(RegionForm form) = 0;
  /// May output `number` ever lie in the bytes of an input? (The addresses are compared afterwards.)
  virtual bool allowsInPlace(unsigned number) const = 0;

  /// Appends a call that computes `roots`; it reads the inputs these need, writes all outputs if `outputs`, and has the
  /// scratch as its last pointer if `scratch`.
  PlannedCall &addCall(llvm::ArrayRef<NodeId> roots, bool outputs, bool scratch);
  /// Makes one dimension of all where the innermost one has `least` elements or fewer.
  void flattenIfNarrow(int64_t least);

  llvm::SmallVector<NodeId> outputNodes() const;
  llvm::SmallVector<NodeId> reductionOperands() const;
  bool isFull(const GraphOutput &output) const { return output.dims & strategy.graph.reductionDims; }
  bool anyFull() const;
  /// Number of graph nodes that the roots of the last call need.
  size_t nodesOfCall() const { return nodeCount; }

  ir::FusedOp op;
  Strategy strategy;

private:
  void findInPlace();
  ir::Cost cost() const;

  size_t nodeCount = 0;
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_PLANNER_H
