//===- Product.h - Matrix products with what libraries do to their elements ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_ANALYSIS_PRODUCT_H
#define MOEC_CODEGEN_ANALYSIS_PRODUCT_H

#include "ir/Ops.h"
#include <optional>

namespace moe::codegen {

/// `emitter` of a `moe.fused` that is a product.
inline constexpr llvm::StringLiteral kProductEmitter = "product";

/// The body of a `moe.fused "product"`, which a library computes in one call, with C in float32 inside:
///
///     C = relu(A B + bias)  or  C = A B + bias + C
///
/// The factors are inputs, widened by casts if C is wider than they are. `bias` has one number per column and lies
/// along the free dimensions of B. `accumulator` has the type of C, whose memory it shares.
struct Product {
  ir::DotOp dot;
  unsigned lhs = 0, rhs = 0; ///< positions among the inputs
  std::optional<unsigned> bias, accumulator;
  bool relu = false;

  /// Fails if the body is anything else.
  static mlir::FailureOr<Product> of(ir::FusedOp op);
};

inline bool isProduct(ir::FusedOp op) {
  return op.getEmitter() == kProductEmitter;
}

/// Does `bias`, broadcast along `dims` and added to the result of `dot`, give each column one number?
bool isColumnBias(ir::DotOp dot, mlir::Value bias, llvm::ArrayRef<int64_t> dims);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_ANALYSIS_PRODUCT_H
