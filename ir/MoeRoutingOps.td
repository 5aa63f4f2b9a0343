//===- MoeRoutingOps.td - Operations of Mixture-of-Experts layers ------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_ROUTING_OPS_TD
#define MOE_ROUTING_OPS_TD

include "MoeOpBase.td"

def Moe_RouteOp : Moe_Op<"route", [Pure, InferTypeOpAdaptor, AttrSizedOperandSegments, DifferentiableReads,
    DeclareOpInterfaceMethods<Moe_DecomposableOpInterface, ["decomposesForCodegen"]>]> {
  let summary = "chooses experts and slots for the tokens of each routing group, with capacity";
  let description = [{
    The gate of fairseq's MoE layer (Artetxe et al., arXiv 2112.10684; GShard, arXiv 2006.16668), per group of S tokens:

    probs = softmax(logits) over experts; first choice = argmax; second choice = argmax of logits (plus `noise` under
    `sampling`) without the first; under `random` the second is kept iff 2 g2 > `noise`[g,s]. Slots are handed out in token
    order (or, `batch_prioritized`, by descending maximum probability, stably), all first choices before all second
    choices, the second ones counted from the total number of first choices. What reaches `capacity` is dropped. Weights
    are g / max(g1 + g2, eps), normalised after dropping or before (`normalize_before_dropping`); with top_k = 1 the bare
    probability. Masked tokens (true = padding) are not routed. eps is 1.1920929e-7.

    logits [G,S,E], mask [G,S], noise [G,S,E] (sampling) or [G,S] (random) ->
    expert, slot [G,S,K] i32 (slot -1 = dropped or masked), weight [G,S,K], token [E,G,C] i32 (s * K + choice of the row
    in the slot, -1 = empty), aux [G] = E sum_e mean_s probs mean_s first, probs [G,S,E], first_fraction [G,E], metrics [G,9]
    (entropy_gating, overflow_expert1, overflow_expert2, expert1_balance_top, expert1_balance_bottom,
    unused_expert1_count, expert2_balance_top, expert2_balance_bottom, unused_expert2_count).
    Gradients reach weight and aux.
  }];
  let arguments = (ins Moe_FloatTensor:$logits, Optional<Moe_BoolTensor>:$mask, Optional<Moe_FloatTensor>:$noise,
                       I64Attr:$top_k, I64Attr:$capacity,
                       DefaultValuedAttr<Moe_SecondExpertPolicy, "::moe::ir::SecondExpertPolicy::All">:$policy,
                       UnitAttr:$normalize_before_dropping, UnitAttr:$batch_prioritized);
  let results = (outs Moe_IntTensor:$expert, Moe_IntTensor:$slot, Moe_FloatTensor:$weight, Moe_IntTensor:$token,
                      Moe_FloatTensor:$aux, Moe_FloatTensor:$probs, Moe_FloatTensor:$first_fraction, Moe_FloatTensor:$metrics);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Exact";
}

def Moe_RouteBackwardOp : Moe_Op<"route_backward", [Pure, InferTypeOpAdaptor]> {
  let summary = "gradient of route with respect to the logits";
  let arguments = (ins Moe_FloatTensor:$weight_grad, Moe_FloatTensor:$aux_grad, Moe_FloatTensor:$probs, Moe_IntTensor:$expert,
                       Moe_IntTensor:$slot, Moe_FloatTensor:$first_fraction, UnitAttr:$normalize_before_dropping);
  let results = (outs Moe_FloatTensor:$logits_grad);
  let adjointStatus = "no: second derivatives are not supported";
  let decompositionStatus = "no: the adjoint of the decomposition of route says the same";
  let cpuStatus = "yes";
}

def Moe_DispatchOp : Moe_Op<"dispatch", [Pure, InferTypeOpAdaptor, DifferentiableReads, Decomposable]> {
  let summary = "moves tokens into the slots of their experts";
  let description = [{
    x [G,S,M], expert, slot [G,S,K], token [E,G,C], optional weight [G,S,K] -> rows [E,G,C,M]: row = x of the token in the
    slot (times its weight), zero in empty slots. `expert` and `slot` are read by the adjoint (`combine`) only.
  }];
  let arguments = (ins Moe_FloatTensor:$input, Moe_IntTensor:$expert, Moe_IntTensor:$slot, Moe_IntTensor:$token,
                       Optional<Moe_FloatTensor>:$weight);
  let results = (outs Moe_FloatTensor:$rows);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_CombineOp : Moe_Op<"combine", [Pure, InferTypeOpAdaptor, DifferentiableReads, Decomposable]> {
  let summary = "adds up the rows of each token's experts";
  let description = [{
    rows [E,G,C,M], expert, slot [G,S,K], token [E,G,C], optional weight [G,S,K] -> y [G,S,M] = sum over k, in order, of
    weight rows[expert, g, slot], slots of -1 left out. `token` is read by the adjoint (`dispatch`) only.
  }];
  let arguments = (ins Moe_FloatTensor:$rows, Moe_IntTensor:$expert, Moe_IntTensor:$slot, Moe_IntTensor:$token,
                       Optional<Moe_FloatTensor>:$weight);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_RoutedDotOp : Moe_Op<"routed_dot", [Pure, InferTypeOpAdaptor, Decomposable]> {
  let summary = "inner product of each token with the rows of its slots: the weight gradient of dispatch and combine";
  let description = [{x [G,S,M], rows [E,G,C,M], expert, slot [G,S,K] -> [G,S,K] = x[g,s] . rows[expert, g, slot], 0 for slot -1.}];
  let arguments = (ins Moe_FloatTensor:$input, Moe_FloatTensor:$rows, Moe_IntTensor:$expert, Moe_IntTensor:$slot);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "no: second derivatives are not supported";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_GroupRowsOp : Moe_Op<"group_rows", [Pure, InferTypeOpAdaptor, Decomposable]> {
  let summary = "a table of rows sorted by expert, in blocks of one expert each: routing that drops nothing";
  let description = [{
    expert [G,S,K] (-1 = no expert), per group g -> slot [G,S,K] i32 (row of the choice, -1 without an expert),
    token [1,G,R] i32 (s * K + choice of the row, -1 = empty), block_expert [G,B] i32 (expert of each block of `block`
    rows, -1 = none). The rows of an expert are in order of s * K + choice and start where a block does, experts in
    order. R = B * block, and B = floor((S K - n) / block) + n with n = min(experts, S K), the most that any choice needs.
    S K is at most 2^24.

    With several `parts` the table is that many tables of experts / parts experts each, one behind the other, each of
    them with room for all choices; block_expert counts the experts of the block's part. So ranks can have a part each.

    `dispatch` and `combine` take slot and token as those of a single expert of capacity R.
  }];
  let arguments = (ins Moe_IntTensor:$expert, I64Attr:$experts, I64Attr:$block,
                       DefaultValuedAttr<I64Attr, "1">:$parts);
  let results = (outs Moe_IntTensor:$slot, Moe_IntTensor:$token, Moe_IntTensor:$block_expert);
  let adjointStatus = "no: integer results";
  let decompositionStatus = "yes: counts in chunks of choices, linear in their number";
  let cpuStatus = "yes";
}

def Moe_GroupedDotOp : Moe_Op<"grouped_dot", [Pure, InferTypeOpAdaptor, DifferentiableReads]> {
  let summary = "matrix product of blocks of rows, each with the weight of its expert";
  let description = [{
    rows [G,R,M], block_expert [G,B] i32, weights: one [E,M,N], or those of E experts, [M,N] each -> [G,R,N] =
    rows[g,r] . weight[block_expert[g, r / (R / B)]], zeros where that is -1. `transposed` weights are [E,N,M] or [N,M].
    float32 accumulation.

    Rows of a table in parts: `part_experts` of them belong to each part (0: to the only one), which are as many as
    weights are there for, and block_expert counts the experts of the part. Rows and weights are split together. Of
    `parts` parts, wherever they are, each has its share of the choices if these are spread evenly, which is what the
    costs assume.
  }];
  let arguments = (ins Moe_FloatTensor:$rows, Moe_IntTensor:$block_expert, Variadic<Moe_FloatTensor>:$weights,
                       UnitAttr:$transposed, DefaultValuedAttr<I64Attr, "0">:$part_experts,
                       DefaultValuedAttr<I64Attr, "1">:$parts);
  let results = (outs Moe_FloatTensor:$result);
  let extraDeclaration = [{
    ::moe::ir::Cost getCost();
    /// Whether each expert's weight is an operand of its own.
    bool isSeparate() { return typeOf(getWeights()[0]).getRank() == 2; }
    int64_t experts();
  }];
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Compute";
}

def Moe_GroupedDotWeightGradOp : Moe_Op<"grouped_dot_weight_grad", [Pure, InferTypeOpAdaptor]> {
  let summary = "sum over the rows of each expert of products of two rows: the weight gradient of grouped_dot";
  let description = [{
    lhs [G,R,M], rhs [G,R,N], block_expert [G,B] i32 -> [E,M,N], or with `separate` E results [M,N]: the sum over the
    rows of expert e of lhs[g,r,m] rhs[g,r,n], zeros for an expert without rows. float32 accumulation. `part_experts`
    and `parts` as in grouped_dot.
  }];
  let arguments = (ins Moe_FloatTensor:$lhs, Moe_FloatTensor:$rhs, Moe_IntTensor:$block_expert, I64Attr:$experts,
                       UnitAttr:$separate, DefaultValuedAttr<I64Attr, "0">:$part_experts,
                       DefaultValuedAttr<I64Attr, "1">:$parts);
  let results = (outs Variadic<Moe_FloatTensor>:$grads);
  let extraDeclaration = "::moe::ir::Cost getCost();";
  let adjointStatus = "no: second derivatives are not supported";
  let cpuStatus = "yes";
}

def Moe_ScaleGradientOp : Moe_PureOp<"scale_gradient", [Differentiable, Decomposable]> {
  let summary = "the identity, whose adjoint multiplies by `factor`";
  let description = [{
    States fairseq's normalisation of expert gradients (sqrt(min(groups, experts))) as a property of the model.
  }];
  let arguments = (ins Moe_FloatTensor:$input, F64Attr:$factor);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "yes: multiplication by the factor; on purpose not the derivative of the forward";
  let decompositionStatus = "yes: the operand";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

#endif // MOE_ROUTING_OPS_TD
