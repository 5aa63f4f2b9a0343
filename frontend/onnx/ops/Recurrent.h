//===- Recurrent.h - Layers with a state in place of keys ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPS_RECURRENT_H
#define MOEC_FRONTEND_ONNX_OPS_RECURRENT_H

namespace moe::frontend {

class NodeContext;

/// `LinearAttention` of opset 27, position by position.
void linearAttention(NodeContext &n);

/// `CausalConvWithState` of opset 27: each channel [B, C, L] with a kernel of its own, over what came before.
void causalConvolution(NodeContext &n);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPS_RECURRENT_H
