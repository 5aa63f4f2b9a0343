//===- IndexSpace.h - Index expressions over a bounded iteration space ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// Index maps of fused regions are affine expressions over the loops of a kernel (dimensions) and over values read from
// memory (symbols: rows found through an index tensor). Reshapes put divisions and remainders into them; because every
// dimension is bounded, nearly all of these vanish again. Expressions are kept in one canonical form, so that equal
// maps are equal pointers.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_ANALYSIS_INDEXSPACE_H
#define MOEC_CODEGEN_ANALYSIS_INDEXSPACE_H

#include "mlir/IR/AffineExpr.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

namespace moe::codegen {

/// Inclusive bounds of an expression.
struct IndexRange {
  int64_t low = 0, high = 0;
};

/// The dimensions of an iteration space and canonical arithmetic on expressions over them. Divisions round towards
/// minus infinity and remainders are not negative, as in `mlir::AffineExpr`; divisors are positive constants.
class IndexSpace {
public:
  explicit IndexSpace(mlir::MLIRContext *context) : context(context) {}

  /// Adds a dimension [0, size).
  mlir::AffineExpr addDim(int64_t size);
  /// Adds a symbol whose values lie in `range`.
  mlir::AffineExpr addSymbol(IndexRange range);
  unsigned numDims() const { return static_cast<unsigned>(dims.size()); }
  unsigned numSymbols() const { return static_cast<unsigned>(symbols.size()); }
  int64_t dimSize(unsigned dim) const { return dims[dim]; }
  void setDimSize(unsigned dim, int64_t size) { dims[dim] = size; }
  llvm::ArrayRef<int64_t> dimSizes() const { return dims; }
  void setDims(llvm::ArrayRef<int64_t> sizes) { dims.assign(sizes.begin(), sizes.end()); }

  mlir::AffineExpr constant(int64_t value) const;
  /// Dimension `position`; 0 where its size is one, so that such dimensions occur in no expression.
  mlir::AffineExpr dim(unsigned position) const;
  /// Dimension `position`, whatever its size.
  mlir::AffineExpr dimExpr(unsigned position) const { return mlir::getAffineDimExpr(position, context); }
  mlir::AffineExpr add(mlir::AffineExpr lhs, mlir::AffineExpr rhs) const;
  mlir::AffineExpr mul(mlir::AffineExpr expr, int64_t factor) const;
  mlir::AffineExpr floorDiv(mlir::AffineExpr expr, int64_t divisor) const;
  mlir::AffineExpr mod(mlir::AffineExpr expr, int64_t divisor) const;

  /// Bounds that hold for all values of dimensions and symbols (not necessarily attained).
  IndexRange range(mlir::AffineExpr expr) const;

  /// Row-major position of `index` in a tensor of `shape`.
  mlir::AffineExpr linearize(llvm::ArrayRef<mlir::AffineExpr> index, llvm::ArrayRef<int64_t> shape) const;
  /// The inverse: indices in `shape` of the row-major position `linear`.
  llvm::SmallVector<mlir::AffineExpr> delinearize(mlir::AffineExpr linear, llvm::ArrayRef<int64_t> shape) const;

  /// Rebuilds `expr` in canonical form with dimension d replaced by `replacements[d]` (null: kept).
  mlir::AffineExpr substitute(mlir::AffineExpr expr, llvm::ArrayRef<mlir::AffineExpr> replacements) const;

  /// The coefficient of dimension `position` if `expr` is linear in it, with everything else unchanged when it moves.
  /// `symbolVaries(s)` says whether symbol s depends on the dimension.
  template <typename SymbolVaries>
  static std::optional<int64_t> coefficient(mlir::AffineExpr expr, unsigned position, SymbolVaries symbolVaries);

private:
  mlir::MLIRContext *context;
  llvm::SmallVector<int64_t> dims;
  llvm::SmallVector<IndexRange> symbols;
};

template <typename SymbolVaries>
std::optional<int64_t> IndexSpace::coefficient(mlir::AffineExpr expr, unsigned position, SymbolVaries symbolVaries) {
  using mlir::AffineExprKind;
  if (auto dim = mlir::dyn_cast<mlir::AffineDimExpr>(expr))
    return dim.getPosition() == position ? 1 : 0;
  if (auto symbol = mlir::dyn_cast<mlir::AffineSymbolExpr>(expr))
    return symbolVaries(symbol.getPosition()) ? std::nullopt : std::optional<int64_t>(0);
  auto binary = mlir::dyn_cast<mlir::AffineBinaryOpExpr>(expr);
  if (!binary)
    return 0;
  std::optional<int64_t> lhs = coefficient(binary.getLHS(), position, symbolVaries);
  if (!lhs)
    return std::nullopt;
  if (expr.getKind() == AffineExprKind::Add) {
    std::optional<int64_t> rhs = coefficient(binary.getRHS(), position, symbolVaries);
    return rhs ? std::optional<int64_t>(*lhs + *rhs) : std::nullopt;
  }
  if (expr.getKind() == AffineExprKind::Mul)
    return *lhs * mlir::cast<mlir::AffineConstantExpr>(binary.getRHS()).getValue();
  return *lhs == 0 ? std::optional<int64_t>(0) : std::nullopt;
}

} // namespace moe::codegen

#endif // MOEC_CODEGEN_ANALYSIS_INDEXSPACE_H
