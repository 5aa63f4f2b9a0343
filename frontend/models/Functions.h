//===- Functions.h - Model-local functions of the domain ai.moec --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// What stays coarse in a preset's file: the importer reads name, operands and attributes; other runtimes execute the
// body, which is standard ONNX. Attributes that only the importer needs (noise, gradient factors) have no part in the
// body. A body is written for one configuration of the structural attributes.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_FUNCTIONS_H
#define MOEC_FRONTEND_MODELS_FUNCTIONS_H

#include "frontend/models/NodeBuilder.h"
#include <string>

namespace moe::models {

/// Gaussian error linear unit and its relatives: appends the nodes of `name` (relu, gelu, gelu_tanh, tanh, linear), the
/// last of which is named `output`. Returns the name of the result, which is `input` for linear.
std::string addActivation(NodeBuilder &nodes, const std::string &name, const std::string &input,
                          const std::string &output);

/// ai.moec.Attention: causal multi-head self-attention between the input and output projections.
///
/// Inputs: q, k, v float [B, T, M]; key_padding_mask bool [B, T], true where a key must not be seen.
/// Output: float [B, T, M]: per head softmax(scale * q k^T + mask) v. A row that may see no key at all gives zero.
/// Attributes: num_heads, scale, causal (1: key j is seen by query i iff j <= i), dropout (on the probabilities).
onnx::FunctionProto attentionFunction(int64_t opset);

/// What shapes the body of ai.moec.MoE.
struct MoeStructure {
  int64_t topK = 2; ///< 1 or 2
  bool normalizeBeforeDropping = false;
  bool batchPrioritized = false;
  bool usePaddingMask = false;
  std::string activation = "gelu";
};

/// ai.moec.MoE: gate with capacity, dispatch, experts, combine (fairseq's top-1 and top-2 gates), in index form.
///
/// Inputs: x float [B, T, M]; gate float [E, M]; fc1_weight [E, F, M], fc1_bias [E, F]; fc2_weight [E, M, F],
/// fc2_bias [E, M]; routing_groups int64 [1] = G, which divides B; padding_mask bool [B, T] (true: not routed), empty
/// unless `usePaddingMask`. Group g is batch rows [gB/G, (g+1)B/G), S = BT/G tokens.
/// Outputs: y float [B, T, M]; l_aux float [G] = E * sum_e mean_s(p) * mean_s(first choice).
/// Attributes: num_experts, top_k, capacity_factor (C = trunc(capacity_factor * ceil(S/E))),
/// eval_capacity_token_fraction, second_expert_policy, normalize_gate_prob_before_dropping,
/// batch_prioritized_routing, gating_use_fp32, normalize_expert_grad, activation, dropout, activation_dropout.
/// The body uses the capacity of training and draws no noise (second_expert_policy `all`).
onnx::FunctionProto moeFunction(int64_t opset, const MoeStructure &structure);

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_FUNCTIONS_H
