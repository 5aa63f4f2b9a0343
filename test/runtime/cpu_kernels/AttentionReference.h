//===- AttentionReference.h - Attention in float64, as the formulas say -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_CPU_KERNELS_ATTENTIONREFERENCE_H
#define MOEC_TEST_RUNTIME_CPU_KERNELS_ATTENTIONREFERENCE_H

#include "runtime/cpu/kernels/Attention.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe::test {

/// Philox uniforms by an implementation of the test's own (128-bit products, no shared code).
double referenceUniform(uint64_t seed, uint64_t site, uint64_t update, uint64_t index);

struct AttentionInputs {
  std::vector<double> q, k, v, dout;
  std::vector<uint8_t> padding; ///< [B, S]; empty: no operand
  std::vector<double> sinks;    ///< [H]; empty: no operand
};
struct AttentionOutputs {
  std::vector<double> out, lse, dq, dk, dv;
};

/// The nearest bfloat16, ties to even, by an implementation of the test's own.
float toBfloat(float value);

/// Standard normal inputs, rounded to float32 or what the shape says, so that the kernels read the same numbers.
AttentionInputs randomInputs(const cpu::AttentionShape &shape, uint64_t seed, bool withSinks = false);

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

/// Runs forward and backward on tensors of the type of the shape; the backward reads outputs after `rounding`. Scratch
/// and results are NaN before, so a read of garbage or an unwritten result shows.
AttentionResults runKernels(const cpu::AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                            int64_t microBatch, Split split = Split::Whole, float (*rounding)(float) = nullptr);

/// |a - b| / |b| in the Euclidean norm, where an exact zero counts as ones; infinities must agree in place and sign.
double relativeError(const std::vector<float> &a, const std::vector<double> &b);

bool sameBits(const std::vector<float> &a, const std::vector<float> &b);

/// All five results.
bool sameBits(const AttentionResults &a, const AttentionResults &b);

/// Float32 sums of some hundred products: 2e-6 of the norm leaves a factor of about five; one wrong weight of a
/// thousand shows.
constexpr double attentionTolerance = 2e-6;

/// Expects that the kernels of every instruction set compute what the reference does.
void expectReference(cpu::AttentionShape shape, const AttentionInputs &inputs);

/// A shape with the usual scale, 1/sqrt(D), and a seed and site of 64 bits.
cpu::AttentionShape shapeOf(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t kvHeads,
                            int64_t headDim, bool causal, float dropout = 0.0f);

std::string describe(const cpu::AttentionShape &shape);

/// The instruction sets that this processor has.
std::vector<cpu::Isa> hostIsas();

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_CPU_KERNELS_ATTENTIONREFERENCE_H
