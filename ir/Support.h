//===- Support.h - Plain types that the interfaces of operations speak of ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_SUPPORT_H
#define MOEC_IR_SUPPORT_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/StringRef.h"

namespace moe::ir {

/// State of each obligation of an operation: "yes…", "planned: why" or "no: why".
struct Obligations {
  llvm::StringRef verifier, shape, layout, reference, adjoint, decomposition, cost, cpu, cuda, tests;
};

/// What an operation does where the recipe computes in a type narrower than float32.
enum class PrecisionRole {
  Compute, ///< gains from the narrow type: its operands are cast to it (products, which add up in float32)
  Follow,  ///< moves or adds numbers: takes the narrow type over from an operand that has it
  Keep,    ///< computes in float32, whatever its operands come as
  Exact    ///< as Keep, and the products that its operands come from do too (decisions that a rounding would turn)
};

/// What one execution of an operation costs on one rank.
struct Cost {
  /// Floating-point operations; a fused multiply-add counts as two.
  double flops = 0;
  /// Bytes read and written, each operand and result once.
  double bytes = 0;
  /// Bytes that a rank sends to others.
  double sent = 0;
};

/// Operands and results whose values a reverse-mode rule reads, by index.
struct AdjointReads {
  llvm::SmallBitVector operands, results;

  /// The safe answer: all of them.
  static AdjointReads everything(mlir::Operation *op);
  static AdjointReads of(mlir::Operation *op, llvm::ArrayRef<unsigned> operands, llvm::ArrayRef<unsigned> results);
};

/// How the results of an operation relate to memory.
struct BufferUse {
  enum class Kind {
    Compute, ///< a step of the plan that writes its results
    View,    ///< results are parts of operand 0 under other shapes; one alone, without `offsets`, is all of it
    Read,    ///< the result is a state
    Write    ///< operand 0 goes to a state
  };
  Kind kind = Kind::Compute;
  /// (result, operand): the result may be computed in the operand's memory.
  llvm::SmallVector<std::pair<unsigned, unsigned>> inPlace;
  /// Of a view: where each result starts in the operand, in elements.
  llvm::SmallVector<int64_t> offsets = {};
  /// The pairs are not a possibility but a must: the operand is updated in place.
  bool mustBeInPlace = false;

  static BufferUse compute(mlir::Operation *op);
};

/// Attribute with the pairs of `BufferUse::inPlace`, flattened.
inline constexpr llvm::StringLiteral kInPlaceAttr = "moe.in_place";

/// One operation per result element; operands and results moved once.
Cost elementwiseCost(mlir::Operation *op);
/// Bytes of operands and results of `op`.
double bytesMoved(mlir::Operation *op);

/// The tensor type of a value of this dialect.
inline mlir::RankedTensorType typeOf(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType());
}

/// Bytes of one element in memory; booleans take one byte.
unsigned elementBytes(mlir::Type elementType);
/// Bytes of a tensor in memory (row-major, no padding).
uint64_t tensorBytes(mlir::RankedTensorType type);

} // namespace moe::ir

#endif // MOEC_IR_SUPPORT_H
