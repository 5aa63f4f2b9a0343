//===- Windows.h - Windows that slide over the spatial dimensions of a tensor -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPS_WINDOWS_H
#define MOEC_FRONTEND_ONNX_OPS_WINDOWS_H

#include "frontend/onnx/ops/Checks.h"
#include <vector>

namespace moe::frontend {

/// One spatial dimension of a convolution or a pool.
struct Window {
  int64_t extent, size, stride, dilation;
  int64_t before = 0, after = 0; ///< padding
  int64_t beyond = 0;            ///< behind the padding: of a last window that `ceil_mode` wants though it is not whole

  int64_t reach() const { return dilation * (size - 1) + 1; }
  int64_t count() const { return (extent + before + after + beyond - reach()) / stride + 1; }
};

/// Windows of these sizes over dimensions of these extents, as the attributes `strides`, `dilations`, `pads`,
/// `auto_pad` and `ceil_mode` place them; the node fails where they do not fit.
std::vector<Window> windows(NodeContext &n, llvm::ArrayRef<int64_t> extents, llvm::ArrayRef<int64_t> sizes);

/// [N, C, D…] to [N, C, count1, size1, count2, size2, …], where `filler` stands around the tensor. A view where windows
/// touch without overlap, as patch embeddings do.
mlir::Value unfolded(NodeContext &n, mlir::Value x, llvm::ArrayRef<Window> windows, double filler);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPS_WINDOWS_H
