//===- Checks.h - Checks that handlers of several files make
//----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPS_CHECKS_H
#define MOEC_FRONTEND_ONNX_OPS_CHECKS_H

#include "frontend/onnx/ops/Support.h"

namespace moe::frontend {

/// A tensor may have 2^40 elements, which nobody touches before it is computed; a list of positions lies in memory now.
inline constexpr int64_t kMaxListed = int64_t(1) << 22;

/// Whether `count` positions or parts may be listed; if not, the node fails.
inline bool mayList(NodeContext &n, int64_t count) {
  if (count > kMaxListed)
    n.fail("it would list " + llvm::Twine(count) + " positions one by one, more than " + llvm::Twine(kMaxListed));
  return !n.failed();
}

/// Whether ONNX has indices of this element type; narrower ones would not hold what is computed with them.
inline bool isIndex(mlir::Type element) {
  return element.isSignlessInteger(32) || element.isSignlessInteger(64);
}

/// `count` operands broadcast to their common shape; empty if that failed or the node has fewer or more.
inline llvm::SmallVector<mlir::Value> broadcastOperands(NodeContext &n, int count) {
  for (int i = 0; i < count; ++i)
    n.input(i);
  if (!n.failed() && n.node.input_size() != count)
    n.fail("it has " + llvm::Twine(n.node.input_size()) + " operands instead of " + llvm::Twine(count));
  return n.failed() ? llvm::SmallVector<mlir::Value>() : broadcastOperands(n);
}

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPS_CHECKS_H
