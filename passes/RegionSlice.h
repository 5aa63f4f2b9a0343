//===- RegionSlice.h - Part of what a fused region computes -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_REGIONSLICE_H
#define MOEC_PASSES_REGIONSLICE_H

#include "ir/Ops.h"
#include "mlir/IR/IRMapping.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/SetVector.h"

namespace moe::ir {

/// Whether a reduction is among the operations of the region.
bool hasReductions(FusedOp fused);

/// A copy of `fused`, right after it, that also has `values` of its body as results, behind its own.
FusedOp withResults(FusedOp fused, llvm::ArrayRef<mlir::Value> values);

/// The operations of a region that some of its results need, if others of them, `given`, are in memory. The slice ends
/// at given results and at reductions: what those compute is read, not computed again, since the order of a sum may
/// depend on the whole region.
class RegionSlice {
public:
  /// One bit per result of `fused`. A result that is wanted and given is not computed.
  RegionSlice(FusedOp fused, llvm::BitVector wanted, llvm::BitVector given);
  RegionSlice(FusedOp fused, unsigned wanted, llvm::BitVector given);

  /// Whether values in memory are what the region computes with. It computes 16-bit floats in more bits, until they are
  /// stored or cast.
  bool isExact() const { return exact; }
  /// Whether the slice computes nothing: what is wanted is the result of a reduction, or given.
  bool isSum() const { return body.empty(); }
  /// Results of reductions, in the body, that the slice needs and that are not given.
  llvm::ArrayRef<mlir::Value> sums() const { return missing.getArrayRef(); }
  /// Values outside that the slice reads, results of `fused` among them.
  llvm::ArrayRef<mlir::Value> operands() const { return inputs.getArrayRef(); }

  /// Makes regions of the slice, one for all results of as many elements, which `made` gets. Operands go through
  /// `mapping`. The wanted results by number.
  std::vector<std::pair<unsigned, mlir::Value>> build(mlir::OpBuilder &builder, const mlir::IRMapping &mapping,
                                                      llvm::SmallVectorImpl<mlir::Operation *> &made) const;

private:
  void walk();
  mlir::Value yielded(unsigned result) const;
  FusedOp buildRegion(mlir::OpBuilder &builder, const mlir::IRMapping &mapping, llvm::ArrayRef<unsigned> results) const;

  mutable FusedOp fused;
  llvm::BitVector wanted, given;
  bool exact = true;
  llvm::DenseSet<mlir::Operation *> body;
  llvm::DenseMap<mlir::Value, mlir::Value> outside; ///< of values in the body that are read from memory
  llvm::SetVector<mlir::Value> inputs, missing;
};

} // namespace moe::ir

#endif // MOEC_PASSES_REGIONSLICE_H
