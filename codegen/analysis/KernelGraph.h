//===- KernelGraph.h - What a kernel computes at one point of its iteration space -------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// The body of a `moe.fused` works on whole tensors. The kernel graph is the same computation seen from one point of an
// iteration space: a node is a scalar, loads carry addresses in terms of the dimensions of the space, broadcasts,
// transposes, reshapes and slices have dissolved into these addresses. The emitters of all targets start from it.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_ANALYSIS_KERNELGRAPH_H
#define MOEC_CODEGEN_ANALYSIS_KERNELGRAPH_H

#include "codegen/analysis/IndexSpace.h"
#include "ir/Ops.h"

namespace moe::codegen {

using NodeId = int;
/// No node: "always true" where a guard is expected.
inline constexpr NodeId noNode = -1;

struct Node {
  enum class Kind {
    Load,    ///< element `address` of input `input`; 0 where `guard` is false
    Table,   ///< element `address` of the constant tensor `constant`; 0 where `guard` is false
    Index,   ///< `address` as a number of type `type`
    Splat,   ///< `constant`, a number of type `type`
    Map,     ///< `op` (ElementwiseOpInterface) applied to `operands`
    Random,  ///< `op` (random_uniform) at element `address`; operands are num_updates, micro-batch and, of a part, its
             ///< start
    Choose,  ///< operands: condition, value if true, value if false
    InRange, ///< low <= address < high
    Divides, ///< address is a multiple of `high`
    RowExists, ///< 0 <= operand < high: a row of a table
    And,       ///< conjunction of two guards
    Reduce     ///< `op` (reduce): combines its operand over the reduction dimensions of the space
  };
  Node(Kind kind, mlir::Type type, mlir::Operation *op = nullptr) : kind(kind), type(type), op(op) {}

  Kind kind;
  mlir::Type type; ///< element type of the tensor the node stands for; i1 for guards
  mlir::Operation *op;
  llvm::SmallVector<NodeId, 3> operands;
  mlir::AffineExpr address;
  mlir::Attribute constant;
  int input = -1;
  NodeId guard = noNode;
  int64_t low = 0, high = 0;
  /// Bit d is set if the value varies with dimension d of the space.
  uint64_t dims = 0;
  /// 0 for what depends on no reduction; a reduction is one more than the highest stage among the reductions it reads.
  unsigned stage = 0;
};

/// One result of the region and where the kernel stores it.
struct GraphOutput {
  NodeId node = noNode;
  /// Element of the output's buffer.
  mlir::AffineExpr address;
  /// Dimensions of the space over which the output varies.
  uint64_t dims = 0;
};

struct KernelGraph {
  explicit KernelGraph(mlir::MLIRContext *context) : space(context) {}

  /// The region.
  ir::FusedOp op;
  IndexSpace space;
  /// Operands precede their users.
  std::vector<Node> nodes;
  /// Node whose (integer) value symbol s of the space stands for.
  llvm::SmallVector<NodeId> symbolNodes;
  /// One per result of the region.
  llvm::SmallVector<GraphOutput> outputs;
  /// Dimensions that reductions run over.
  uint64_t reductionDims = 0;
  /// Reduce nodes in order.
  llvm::SmallVector<NodeId> reductions;

  /// Dimensions (bits) over which `expr` varies.
  uint64_t dimsOf(mlir::AffineExpr expr) const;
  /// Largest stage of the nodes behind the symbols of `expr`.
  unsigned stageOf(mlir::AffineExpr expr) const;
  /// Coefficient of dimension `dim` in `expr`; none if not linear.
  std::optional<int64_t> coefficient(mlir::AffineExpr expr, unsigned dim) const;

  /// Merges neighbouring dimensions wherever every address sees them as one, then drops dimensions of size one and
  /// renumbers the rest. Dimensions d and d + 1 stay apart if bit d of `barriers` is set.
  void collapse(uint64_t barriers);
  /// Replaces dimension d by `replacements[d]` everywhere (null: kept).
  void substitute(llvm::ArrayRef<mlir::AffineExpr> replacements);
  /// Recomputes `dims` of all nodes.
  void recomputeDims();

private:
  bool mergeable(unsigned dim) const;
  void compact(uint64_t &barriers);
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_ANALYSIS_KERNELGRAPH_H
