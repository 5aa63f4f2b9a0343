//===- Support.h - What handlers of several files share -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPS_SUPPORT_H
#define MOEC_FRONTEND_ONNX_OPS_SUPPORT_H

#include "frontend/onnx/NodeContext.h"

namespace moe::frontend {

/// Product of extents; 1 for none.
int64_t product(llvm::ArrayRef<int64_t> extents);

/// 0, 1, … count - 1
Shape firstDims(int64_t count);

/// Swaps dimension `axis` with the last one, where the row operations of the dialect work.
mlir::Value swapWithLast(NodeContext &n, mlir::Value x, int64_t axis);

/// The only operand, a tensor, sequence or optional, as the only result.
void passOn(NodeContext &n);

/// All operands broadcast to their common shape; empty if that failed.
llvm::SmallVector<mlir::Value> broadcastOperands(NodeContext &n);

/// Negative indices count from the end of a dimension of that extent; those that cannot be negative stay as they are.
/// moe.gather would read zeros for them. An input of the model needs no care: the runtime checks that tokens are at
/// least 0 and below the number of rows.
mlir::Value wrapNegative(NodeContext &n, mlir::Value index, int64_t extent);

/// Numbers 0, 1, … along dimension `dim` of `shape`.
mlir::Value iota(NodeContext &n, llvm::ArrayRef<int64_t> shape, mlir::Type element, int64_t dim);

/// result[…, i, …] = x[…, positions[i], …] along `axis`, for positions known at compile time.
mlir::Value pick(NodeContext &n, mlir::Value x, int64_t axis, llvm::ArrayRef<int64_t> positions);

/// The part [from, to) of dimension `axis`.
mlir::Value slicePart(NodeContext &n, mlir::Value x, int64_t axis, int64_t from, int64_t to);

/// The product over dimension `dim`, which keeps the extent 1; halves are multiplied, so that gradients need no
/// division.
mlir::Value productAlong(NodeContext &n, mlir::Value x, int64_t dim);

mlir::Value compare(NodeContext &n, ir::ComparePredicate predicate, mlir::Value a, mlir::Value b);

/// Numbers of either kind; scalars of the element type of `a` in place of tensors.
mlir::Value add(NodeContext &n, mlir::Value a, double b);
mlir::Value multiply(NodeContext &n, mlir::Value a, double b);

/// |x| of floats or integers.
mlir::Value magnitude(NodeContext &n, mlir::Value x);

/// -x of floats or integers.
mlir::Value negated(NodeContext &n, mlir::Value x);

/// log softmax over the last dimension.
mlir::Value logSoftmaxOfRows(NodeContext &n, mlir::Value rows);

/// The value without its gradient.
mlir::Value detached(NodeContext &n, mlir::Value x);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPS_SUPPORT_H
