//===- Product.cpp - Reads the body of a product ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/Product.h"

#include "ir/Support.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

/// The input that `value` is, seen through a cast if `throughCast`.
std::optional<unsigned> inputOf(Value value, bool throughCast) {
  if (auto cast = value.getDefiningOp<CastOp>(); cast && throughCast)
    value = cast.getInput();
  if (auto argument = dyn_cast<BlockArgument>(value))
    return argument.getArgNumber();
  return std::nullopt;
}

} // namespace

bool isColumnBias(DotOp dot, Value bias, ArrayRef<int64_t> dims) {
  // One bias serves all products of a batch, and the free dimensions of B are the last ones of C.
  for (int64_t dim : dot.getLhsBatch())
    if (typeOf(dot.getLhs()).getDimSize(dim) != 1)
      return false;
  int64_t columns = static_cast<int64_t>(dot.rhsFree().size()), rank = dot.getType().getRank();
  if (columns == 0 || typeOf(bias).getRank() != columns || static_cast<int64_t>(dims.size()) != columns ||
      typeOf(bias).getElementType() != dot.getType().getElementType())
    return false;
  for (int64_t i = 0; i < columns; ++i)
    if (dims[i] != rank - columns + i || typeOf(bias).getDimSize(i) != dot.getType().getDimSize(dims[i]))
      return false;
  return true;
}

FailureOr<Product> Product::of(FusedOp op) {
  Product product;
  Value at = op.getBody().front().getTerminator()->getOperand(0);
  if (auto relu = at.getDefiningOp<ReluOp>()) {
    product.relu = true;
    at = relu.getInput();
  }
  // Sums, outermost first: + accumulator, + bias.
  while (auto add = at.getDefiningOp<AddOp>()) {
    if (auto broadcast = add.getRhs().getDefiningOp<BroadcastOp>(); broadcast && !product.bias)
      product.bias = inputOf(broadcast.getInput(), false);
    else if (!product.accumulator && !product.bias && !product.relu)
      product.accumulator = inputOf(add.getRhs(), false);
    else
      return failure();
    if (!product.bias && !product.accumulator)
      return failure();
    at = add.getLhs();
  }
  product.dot = at.getDefiningOp<DotOp>();
  if (!product.dot)
    return failure();
  std::optional<unsigned> lhs = inputOf(product.dot.getLhs(), true), rhs = inputOf(product.dot.getRhs(), true);
  if (!lhs || !rhs || op.getNumResults() != 1)
    return failure();
  product.lhs = *lhs;
  product.rhs = *rhs;
  return product;
}

} // namespace moe::codegen
