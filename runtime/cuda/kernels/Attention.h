//===- Attention.h - Attention without a matrix of all scores -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The formulas, conventions and random numbers of runtime/cpu/kernels/Attention.h: the same weights are dropped. Scores
// exist in tiles of 64 x 64 in shared memory (Dao et al., "FlashAttention", 2022). The backward pass goes over them
// twice, by rows for dq and by columns for dk and dv, so that every element is summed by one thread in a fixed order.
//
// bfloat16 tensors aligned to 16 bytes whose head dimension is a multiple of 8, at most 128, are multiplied by tensor
// cores: weights and gradients of scores are then rounded to bfloat16 before they multiply.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_ATTENTION_H
#define MOEC_RUNTIME_CUDA_KERNELS_ATTENTION_H

#include "runtime/cpu/kernels/AttentionOperands.h"
#include "runtime/cuda/kernels/Element.h"

#include <cuda_runtime.h>

#include <cstdint>

namespace moe::cuda {

/// Any headDim; best are multiples of 32 up to 128.
struct AttentionShape : cpu::AttentionSizes {
  Element element = Element::Float32; ///< of q, k, v, out and their gradients
};

/// Pointers are of the device, aligned to their elements. The forward needs no scratch, the backward
/// attentionScratchBytes of runtime/cuda/Scratch.h.
using AttentionForwardPointers = cpu::AttentionForwardOperands;
using AttentionBackwardPointers = cpu::AttentionBackwardOperands;

/// One launch, and three. cudaErrorInvalidValue: 2^31 blocks or more.
cudaError_t attentionForward(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                             cudaStream_t stream);
cudaError_t attentionBackward(const AttentionShape &shape, const AttentionBackwardPointers &pointers,
                              cudaStream_t stream);

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_ATTENTION_H
