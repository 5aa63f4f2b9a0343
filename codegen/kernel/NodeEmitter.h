//===- NodeEmitter.h - Values of graph nodes at a point or a vector of points -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// Memory is reached by LLVM pointers, values are computed by arith, math and vector operations. Narrow floats are
// float32 in registers, booleans are i1 in registers and bytes in memory.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_NODEEMITTER_H
#define MOEC_CODEGEN_KERNEL_NODEEMITTER_H

#include "codegen/kernel/Lowering.h"
#include "codegen/kernel/Strategy.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/DenseMap.h"

namespace moe::codegen {

/// Where the kernel stands in its loops, and what it has computed on the way there. Copied when entering a loop, so
/// that values computed inside are forgotten outside.
struct Scope {
  /// Current index (of `indexBits`) of each dimension; of the vector dimension that of lane 0. Null where no loop is
  /// open.
  llvm::SmallVector<mlir::Value> dims;
  /// Dimension that the lanes run along; -1: scalar code.
  int vectorDim = -1;
  /// Lanes that exist (vector of i1); null: all.
  mlir::Value mask;
  llvm::DenseMap<NodeId, mlir::Value> values;
};

class NodeEmitter {
public:
  NodeEmitter(mlir::ImplicitLocOpBuilder &builder, const Strategy &strategy);

  mlir::ImplicitLocOpBuilder &b;
  const Strategy &strategy;
  const KernelGraph &graph;
  /// Pointers of this call; null for what it does not touch.
  llvm::SmallVector<mlir::Value> inputs, outputs;
  mlir::Value scratch;
  /// Those of the plan (i64).
  llvm::SmallVector<mlir::Value> numbers;
  /// Memory on the stack in which a pass over a row leaves its random numbers for the passes that follow: reading costs
  /// far less than drawing again. By node; one float per element of the row, up to whole vectors.
  llvm::DenseMap<NodeId, mlir::Value> kept;
  /// Those of `kept` that the pass being emitted finds filled, and those that it fills.
  llvm::DenseSet<NodeId> filled, filling;

  /// Value of a node: a vector if it varies along the vector dimension of the scope, else a scalar.
  mlir::Value node(NodeId id, Scope &scope);
  /// The same, always as a vector if the scope has a vector dimension.
  mlir::Value vectorNode(NodeId id, Scope &scope) { return spread(node(id, scope), scope); }
  /// Computes what of `roots` varies with no dimension outside `available` (bits) and depends on no stage above
  /// `stage`, so that loops opened later find it.
  void hoist(llvm::ArrayRef<NodeId> roots, uint64_t available, unsigned stage, Scope &scope);
  /// Stores an output at the scope's point or vector of points.
  void store(const GraphOutput &output, unsigned number, Scope &scope);

  /// Value of an index expression in scalar code (lane 0).
  mlir::Value index(mlir::AffineExpr expr, Scope &scope);

  /// Register type of an element type, and the type of the same width in memory.
  mlir::Type registerType(mlir::Type element) const;
  mlir::Type memoryType(mlir::Type element) const;
  mlir::VectorType vectorOf(mlir::Type element) const { return mlir::VectorType::get({strategy.lanes}, element); }
  mlir::Value spread(mlir::Value value, const Scope &scope);
  /// An index.
  mlir::Value constant(int64_t value);
  mlir::IntegerType indexType() const { return b.getIntegerType(strategy.indexBits); }
  /// A number of register type `type` (scalar or vector).
  mlir::Value number(mlir::Type type, double value);
  /// lanes [0, lanes) as a vector of `type`.
  mlir::Value laneNumbers(mlir::Type type);

  /// Identity and combination of a reduction (register types, scalar or vector).
  mlir::Value identity(const Node &reduce, bool vector);
  mlir::Value combine(const Node &reduce, mlir::Value lhs, mlir::Value rhs);
  /// Combines the lanes of a vector by halving: a fixed order.
  mlir::Value combineLanes(const Node &reduce, mlir::Value vector);

  /// Partial result `position` of reduction number `reduction` in scratch (8 bytes apart as scalars, register type).
  mlir::Value partialPointer(unsigned reduction, mlir::Value position, int64_t count, unsigned bytes);
  mlir::Value loadRaw(mlir::Type type, mlir::Value pointer, unsigned alignment);
  void storeRaw(mlir::Value value, mlir::Value pointer, unsigned alignment);
  /// A whole vector of `memory` elements, of which only the scope's lanes are touched; others read as 0.
  mlir::Value loadLanes(mlir::Type memory, mlir::Value pointer, const Scope &scope);
  void storeLanes(mlir::Value vector, mlir::Value pointer, const Scope &scope);
  mlir::Value pointerAt(mlir::Value base, mlir::Type type, mlir::Value index);

private:
  mlir::Value compute(NodeId id, Scope &scope);
  mlir::Value load(const Node &node, Scope &scope);
  mlir::Value table(const Node &node, Scope &scope);
  mlir::Value read(mlir::Value base, const Node &node, int64_t elements, Scope &scope);
  mlir::Value map(const Node &node, Scope &scope);
  mlir::Value random(const Node &node, Scope &scope);
  /// `random`, by way of `kept`.
  mlir::Value keptRandom(NodeId id, Scope &scope);
  /// High and low words of 32 x 32 bit products with a constant.
  std::pair<mlir::Value, mlir::Value> multiplyWide(mlir::Value word, uint32_t factor);
  mlir::Value bound(const Node &node, Scope &scope);
  mlir::Value fromMemory(mlir::Value value, mlir::Type element);
  mlir::Value toMemory(mlir::Value value, mlir::Type element);
  mlir::Value roundNarrow(mlir::Value value, mlir::Type element);
  /// bfloat16 (as i16) -> float32.
  mlir::Value widenBits(mlir::Value bits);
  /// float32 -> its nearest bfloat16 (as i16), ties to even.
  mlir::Value narrowBits(mlir::Value value);
  /// An index expression along the lanes: a vector of i32 where it fits, else of i64.
  mlir::Value laneIndex(mlir::AffineExpr expr, Scope &scope);
  mlir::Value laneTerm(mlir::AffineExpr expr, mlir::Type type, Scope &scope);
  /// Alignment of a whole vector of `memory` elements.
  unsigned alignmentOf(mlir::Type memory) const;
  bool fits32(mlir::AffineExpr expr) const;
  bool varies(mlir::AffineExpr expr, const Scope &scope) const;
  std::optional<int64_t> stride(mlir::AffineExpr expr, const Scope &scope) const;
  mlir::Value widen(mlir::Value integer, mlir::Type type);
  mlir::Value guardMask(NodeId guard, Scope &scope);
  mlir::Type like(mlir::Value value, mlir::Type element) const;

  llvm::SmallVector<mlir::Value> tables;
};

/// Replaces the transcendental operations of math inside `op` by polynomials that call no library, and truncations to
/// bfloat16 for which there is no instruction by integer arithmetic.
void expandMath(mlir::Operation *op, MathInstructions instructions);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_NODEEMITTER_H
