//===- Strategy.h - The loop structure of a region -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_STRATEGY_H
#define MOEC_CODEGEN_KERNEL_STRATEGY_H

#include "codegen/analysis/KernelGraph.h"
#include "codegen/kernel/FusedPlan.h"

namespace moe::codegen {

enum class LoopKind {
  Pointwise, ///< unit = (outer index, chunk of the innermost dimension)
  Rows,      ///< unit = row; one pass per level of reductions
  SplitRows, ///< unit = (row, chunk); partial sums in scratch, combined by a second call
  Columns    ///< unit = (chunk of reduced rows, outer index, block of columns); a second call if there are many chunks
};

/// Everything an emitter needs to know, fixed at compile time so that the order of sums does not depend on threads.
struct Strategy {
  Strategy(mlir::MLIRContext *context) : graph(context) {}

  LoopKind kind = LoopKind::Pointwise;
  /// Collapsed.
  KernelGraph graph;
  /// Vector lanes of 32 bits.
  unsigned lanes = 1;
  /// Width of index arithmetic. 32 needs every index, address and size of the region to fit.
  unsigned indexBits = 64;
  /// Bytes by which whole vectors in memory are aligned at least (or by their size, if that is less); 1: by an element.
  unsigned vectorAlignment = 1;
  /// Whether lanes multiply 32 x 32 bits to 64 one by one, as GPUs do, rather than by pairs in vector registers.
  bool scalarProducts = false;
  /// Dimensions that make up the unit index, outermost first, and dimensions of the loops inside.
  llvm::SmallVector<unsigned> outer, inner;
  /// Pointwise and SplitRows: length of a chunk of the last inner dimension, a multiple of `lanes`. Columns: columns
  /// per block.
  int64_t chunk = 1;
  int64_t chunks = 1;
  /// Pointwise: a dimension of which tiles of `tileLength` run inside the vector loop, so that what is read across it
  /// (a transpose) stays in the cache; -1: none. It is not among `outer`.
  int tileDim = -1;
  int64_t tiles = 1;
  static constexpr int64_t tileLength = 64;
  /// GPU, Rows and SplitRows: threads that share a row (or a chunk of it): 1, 32 or all of a block.
  unsigned team = 1;
  /// GPU, Rows: vectors of a row that each thread of the team keeps in registers from pass to pass; 0: rows are read
  /// again in each pass.
  unsigned slots = 0;
  /// Columns: parts that the outermost reduced dimension is cut into, and their length.
  int64_t parts = 1, partLength = 1;
  /// Highest stage of the reductions.
  unsigned stages = 0;
  FusedPlan plan;

  /// Bytes of a slot for a partial result of any reduction, in scratch: 4, or 8 if there are sums of 64-bit integers.
  unsigned partialWidth() const;
  /// Bytes that `count` partial results of one reduction take there.
  uint64_t partialBytes(int64_t count) const { return (static_cast<uint64_t>(count) * partialWidth() + 63) / 64 * 64; }

  /// Number of combinations of the `outer` dimensions.
  int64_t outerCount() const;
  int64_t sizeOf(unsigned dim) const { return graph.space.dimSize(dim); }
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_STRATEGY_H
