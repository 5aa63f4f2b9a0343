//===- TensorBuilder.h - Writes tensor algebra like algebra -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_TENSORBUILDER_H
#define MOEC_IR_TENSORBUILDER_H

#include "ir/Ops.h"

namespace moe::ir {

/// Creates operations of the dialect at one location. Types are inferred; constants take element type, shape and layout
/// from a value that they are like.
class TensorBuilder {
public:
  TensorBuilder(mlir::OpBuilder &builder, mlir::Location loc) : builder(builder), loc(loc) {}

  mlir::OpBuilder &builder;
  mlir::Location loc;

  template <typename OpTy, typename... Args> mlir::Value make(Args &&...args) {
    return OpTy::create(builder, loc, std::forward<Args>(args)...)->getResult(0);
  }

  /// Splat of `type`, which may be of floats, integers or booleans.
  mlir::Value splat(mlir::RankedTensorType type, double value);
  /// Splat of the type of `like`.
  mlir::Value splatLike(mlir::Value like, double value) { return splat(typeOf(like), value); }

  mlir::Value neg(mlir::Value a) { return make<NegOp>(a); }
  mlir::Value exp(mlir::Value a) { return make<ExpOp>(a); }
  mlir::Value log(mlir::Value a) { return make<LogOp>(a); }
  mlir::Value tanh(mlir::Value a) { return make<TanhOp>(a); }
  mlir::Value sqrt(mlir::Value a) { return make<SqrtOp>(a); }
  mlir::Value rsqrt(mlir::Value a) { return make<RsqrtOp>(a); }
  mlir::Value add(mlir::Value a, mlir::Value b) { return make<AddOp>(a, b); }
  mlir::Value sub(mlir::Value a, mlir::Value b) { return make<SubOp>(a, b); }
  mlir::Value mul(mlir::Value a, mlir::Value b) { return make<MulOp>(a, b); }
  mlir::Value div(mlir::Value a, mlir::Value b) { return make<DivOp>(a, b); }
  mlir::Value max(mlir::Value a, mlir::Value b) { return make<MaxOp>(a, b); }
  mlir::Value min(mlir::Value a, mlir::Value b) { return make<MinOp>(a, b); }
  mlir::Value pow(mlir::Value a, mlir::Value b) { return make<PowOp>(a, b); }
  mlir::Value conj(mlir::Value a, mlir::Value b) { return make<AndOp>(a, b); }
  mlir::Value mul(mlir::Value a, double factor) { return mul(a, splatLike(a, factor)); }
  mlir::Value add(mlir::Value a, double term) { return add(a, splatLike(a, term)); }
  mlir::Value select(mlir::Value c, mlir::Value a, mlir::Value b) { return make<SelectOp>(c, a, b); }
  mlir::Value compare(ComparePredicate predicate, mlir::Value a, mlir::Value b) {
    return make<CompareOp>(predicate, a, b);
  }
  mlir::Value cast(mlir::Value a, mlir::Type elementType);

  /// Dimension i of `a` becomes dimension dims[i] of `shape`.
  mlir::Value broadcast(mlir::Value a, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> dims);
  /// The same to the shape of `like`; along new dimensions that are split in `like` each rank makes its part.
  mlir::Value broadcastLike(mlir::Value a, mlir::RankedTensorType like, llvm::ArrayRef<int64_t> dims);
  /// Repeats a scalar (rank 0) over the shape of `like`.
  mlir::Value broadcastScalar(mlir::Value scalar, mlir::Value like);
  /// Gives `a` [...] a trailing dimension of `like`'s last size.
  mlir::Value broadcastRows(mlir::Value a, mlir::Value like);
  /// Repeats the vector `a` [M] over the leading dimensions of `like` [..., M].
  mlir::Value broadcastLast(mlir::Value a, mlir::Value like);
  mlir::Value reshape(mlir::Value a, llvm::ArrayRef<int64_t> shape);
  /// The same to the shape of `like`, split where `like` is on the axes that split `a`.
  mlir::Value reshapeLike(mlir::Value a, mlir::RankedTensorType like);
  mlir::Value transpose(mlir::Value a, llvm::ArrayRef<int64_t> permutation);
  mlir::Value reduce(ReduceKind kind, mlir::Value a, llvm::ArrayRef<int64_t> dims);
  mlir::Value reduceLast(ReduceKind kind, mlir::Value a);
  mlir::Value sumAll(mlir::Value a);
  mlir::Value dot(mlir::Value a, mlir::Value b, llvm::ArrayRef<int64_t> aBatch, llvm::ArrayRef<int64_t> bBatch,
                  llvm::ArrayRef<int64_t> aContract, llvm::ArrayRef<int64_t> bContract);
  mlir::Value iota(mlir::RankedTensorType type, int64_t dim);
};

/// `type` with `replicate` for `partial`: what is the same on all ranks is no sum over them, unless it is zero.
mlir::RankedTensorType wholeOrSplit(mlir::RankedTensorType type);
/// `type` with another shape (layout kept).
inline mlir::RankedTensorType withShape(mlir::RankedTensorType type, llvm::ArrayRef<int64_t> shape) {
  return mlir::RankedTensorType::get(shape, type.getElementType(), type.getEncoding());
}
/// `type` with another element type (layout kept).
inline mlir::RankedTensorType withElement(mlir::RankedTensorType type, mlir::Type elementType) {
  return mlir::RankedTensorType::get(type.getShape(), elementType, type.getEncoding());
}

} // namespace moe::ir

#endif // MOEC_IR_TENSORBUILDER_H
