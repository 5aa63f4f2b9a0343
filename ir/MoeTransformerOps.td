//===- MoeTransformerOps.td - Coarse operations of transformers --------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_TRANSFORMER_OPS_TD
#define MOE_TRANSFORMER_OPS_TD

include "MoeOpBase.td"

def Moe_SoftmaxOp : Moe_PureOp<"softmax", [DifferentiableReads, Decomposable]> {
  let summary = "softmax along the last dimension, with the maximum subtracted";
  let arguments = (ins Moe_FloatTensor:$input);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_LayerNormOp : Moe_PureOp<"layer_norm", [DifferentiableReads, Decomposable]> {
  let summary = "normalises the last dimension to mean 0, variance 1, then scales and shifts";
  let description = [{
    mean = E x, rstd = 1 / sqrt(E (x - mean)^2 + epsilon), y = (x - mean) rstd scale + bias.
    x [..., M], scale [M], bias [M] -> y [..., M], mean [...], rstd [...]. Gradients reach y only.
    Ba et al., arXiv 1607.06450.
  }];
  let arguments = (ins Moe_FloatTensor:$input, Moe_FloatTensor:$scale, Moe_FloatTensor:$bias, F64Attr:$epsilon);
  let results = (outs Moe_FloatTensor:$result, Moe_FloatTensor:$mean, Moe_FloatTensor:$rstd);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_RmsNormOp : Moe_PureOp<"rms_norm", [DifferentiableReads, Decomposable]> {
  let summary = "divides the last dimension by its root mean square, then scales";
  let description = [{
    rstd = 1 / sqrt(E x^2 + epsilon), y = x rstd scale. x [..., M], scale [M] -> y [..., M], rstd [...]. Gradients reach y
    only. Zhang and Sennrich, arXiv 1910.07467.
  }];
  let arguments = (ins Moe_FloatTensor:$input, Moe_FloatTensor:$scale, F64Attr:$epsilon);
  let results = (outs Moe_FloatTensor:$result, Moe_FloatTensor:$rstd);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_SoftmaxCrossEntropyOp : Moe_PureOp<"softmax_cross_entropy", [DifferentiableReads, Decomposable]> {
  let summary = "per-row cross-entropy of a softmax against integer labels";
  let description = [{
    logits [..., V], labels [...] -> loss [...] = lse - logits[label], lse [...] = log sum exp logits.
    Rows whose label equals `ignore_index` have loss 0 and no gradient. Gradients reach loss only.
  }];
  let arguments = (ins Moe_FloatTensor:$logits, Moe_IntTensor:$labels, I64Attr:$ignore_index);
  let results = (outs Moe_FloatTensor:$loss, Moe_FloatTensor:$lse);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_AttentionOp : Moe_Op<"attention", [Moe_PlaceDependent, Pure, InferTypeOpAdaptor, AttrSizedOperandSegments,
    DifferentiableReads, DeclareOpInterfaceMethods<Moe_DecomposableOpInterface, ["decomposesForCodegen"]>]> {
  let summary = "scaled dot-product attention without a queries x keys tensor";
  let description = [{
    q [B,T,H,D], k and v [B,S,Hkv,D] with H a multiple of Hkv: out [B,T,H,D] = softmax(scale q k^T) v over S, lse [B,H,T].
    `causal`: query i sees key j iff j <= i + S - T. Keys where `padding` [B,S] is true are seen by none; a query that sees
    no key gets zero and lse = -inf. With `rate` > 0 softmax weights are dropped as in `dropout`, the
    element index running over [B,H,T,S]. lse of narrow types is float32. Gradients reach out only. Dao et al., arXiv
    2205.14135.
    * `window` w > 0: query i sees key j only if i + S - T - w < j.
    * `softcap` c > 0 replaces a score x by c tanh(x / c), before the bias (Gemma Team, arXiv 2408.00118).
    * `sinks` [H]: one more logit per head in the divisor and in lse, to which no value belongs (Xiao et al., arXiv
      2309.17453). Gradients reach it.
    * `bias` is added to the scores: its dimension i is dimension `bias_dims[i]` of [B,H,T,S] (increasing, equal sizes),
      and it is repeated along the others. A bias of -inf hides the key. Gradients reach it. Without a library kernel,
      hence decomposed for code generation: beside a bias of -1e38, as masks have it, lse does not tell the weights.
  }];
  let arguments = (ins Moe_FloatTensor:$query, Moe_FloatTensor:$key, Moe_FloatTensor:$value, Optional<Moe_BoolTensor>:$padding,
                       Optional<Moe_IntTensor>:$rng, Optional<Moe_FloatTensor>:$bias, Optional<Moe_FloatTensor>:$sinks,
                       F64Attr:$scale, UnitAttr:$causal, DefaultValuedAttr<F64Attr, "0.0">:$rate,
                       DefaultValuedAttr<I64Attr, "0">:$seed, DefaultValuedAttr<I64Attr, "0">:$site,
                       DefaultValuedAttr<DenseI64ArrayAttr, "{}">:$bias_dims, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<I64Attr, "0">:$window);
  let results = (outs Moe_FloatTensor:$result, Moe_FloatTensor:$lse);
  let assemblyFormat = [{
    $query `,` $key `,` $value (`padding` $padding^)? (`rng` $rng^)? (`bias` $bias^)? (`sinks` $sinks^)? attr-dict `:`
    functional-type(operands, results)
  }];
  let extraDeclaration = [{
    ::moe::ir::Cost getCost();
  }];
  let precisionRole = "Compute";
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_AttentionBackwardOp : Moe_Op<"attention_backward", [Moe_PlaceDependent, Pure, InferTypeOpAdaptor,
    AttrSizedOperandSegments]> {
  let summary = "gradients of attention with respect to query, key and value";
  let arguments = (ins Moe_FloatTensor:$result_grad, Moe_FloatTensor:$query, Moe_FloatTensor:$key, Moe_FloatTensor:$value,
                       Moe_FloatTensor:$result, Moe_FloatTensor:$lse, Optional<Moe_BoolTensor>:$padding,
                       Optional<Moe_IntTensor>:$rng, F64Attr:$scale,
                       UnitAttr:$causal, DefaultValuedAttr<F64Attr, "0.0">:$rate, DefaultValuedAttr<I64Attr, "0">:$seed,
                       DefaultValuedAttr<I64Attr, "0">:$site, DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<I64Attr, "0">:$window);
  let assemblyFormat = [{
    $result_grad `,` $query `,` $key `,` $value `,` $result `,` $lse (`padding` $padding^)? (`rng` $rng^)? attr-dict `:`
    functional-type(operands, results)
  }];
  let results = (outs Moe_FloatTensor:$query_grad, Moe_FloatTensor:$key_grad, Moe_FloatTensor:$value_grad);
  let extraDeclaration = "::moe::ir::Cost getCost();";
  let adjointStatus = "no: second derivatives are not supported";
  let decompositionStatus = "no: the adjoint of the decomposition of attention says the same";
  let cpuStatus = "yes";
}

#endif // MOE_TRANSFORMER_OPS_TD
