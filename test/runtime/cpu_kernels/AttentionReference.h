//===- AttentionReference.h - Attention in float64, as the formulas say -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_CPU_KERNELS_ATTENTIONREFERENCE_H
#define MOEC_TEST_RUNTIME_CPU_KERNELS_ATTENTIONREFERENCE_H

#include "runtime/cpu/kernels/Attention.h"

#include <cstdint>
#include <vector>

namespace moe::test {

/// Philox uniforms by an implementation of the test's own (128-bit products, no shared code).
double referenceUniform(uint64_t seed, uint64_t site, uint64_t update, uint64_t index);

struct AttentionInputs {
  std::vector<double> q, k, v, dout;
};
struct AttentionOutputs {
  std::vector<double> out, lse, dq, dk, dv;
};

/// Standard normal inputs, rounded to float32 so that the kernels read the same numbers.
AttentionInputs randomInputs(const cpu::AttentionShape &shape, uint64_t seed);

/// out and lse with the whole T x S matrix in memory.
AttentionOutputs referenceForward(const cpu::AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                                  int64_t microBatch);

/// Also the gradients of sum(out * dout), by the chain rule through the materialised softmax.
AttentionOutputs referenceAttention(const cpu::AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                                    int64_t microBatch);

/// What a kernel computed.
struct AttentionResults {
  std::vector<float> out, lse, dq, dk, dv;
};

/// Order and division of the items.
enum class Split { Whole, Singly };

/// Runs forward and backward. Scratch and results are NaN before, so a read of garbage or an unwritten result shows.
AttentionResults runKernels(const cpu::AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                            int64_t microBatch, Split split = Split::Whole);

/// |a - b| / |b| in the Euclidean norm, where an exact zero counts as ones; infinities must agree in place and sign.
double relativeError(const std::vector<float> &a, const std::vector<double> &b);

/// The instruction sets that this processor has.
std::vector<cpu::Isa> hostIsas();

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_CPU_KERNELS_ATTENTIONREFERENCE_H
