//===- MoeElementwiseOps.td - Operations on corresponding elements ----------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_ELEMENTWISE_OPS_TD
#define MOE_ELEMENTWISE_OPS_TD

include "MoeOpBase.td"

class Moe_ElementwiseOp<string mnemonic, list<Trait> traits = []> : Moe_PureOp<mnemonic, !listconcat(traits, [MapsElements])> {
  let cpuStatus = "yes";
}

class Moe_FloatUnary<string mnemonic, string formula, list<Trait> traits = [Differentiable]>
    : Moe_ElementwiseOp<mnemonic, traits> {
  let summary = "elementwise " # formula;
  let arguments = (ins Moe_FloatTensor:$input);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "yes";
}

def Moe_NegOp : Moe_FloatUnary<"neg", "-x">;
def Moe_AbsOp : Moe_FloatUnary<"abs", "|x|; derivative 0 at 0">;
def Moe_ExpOp : Moe_FloatUnary<"exp", "e^x">;
def Moe_LogOp : Moe_FloatUnary<"log", "natural logarithm">;
def Moe_SqrtOp : Moe_FloatUnary<"sqrt", "square root">;
def Moe_RsqrtOp : Moe_FloatUnary<"rsqrt", "1 / sqrt(x)">;
def Moe_TanhOp : Moe_FloatUnary<"tanh", "hyperbolic tangent">;
def Moe_ErfOp : Moe_FloatUnary<"erf", "error function">;
def Moe_SigmoidOp : Moe_FloatUnary<"sigmoid", "1 / (1 + e^-x)">;
def Moe_SinOp : Moe_FloatUnary<"sin", "sine">;
def Moe_CosOp : Moe_FloatUnary<"cos", "cosine">;
def Moe_ReluOp : Moe_FloatUnary<"relu", "max(x, 0); derivative 0 at 0">;

def Moe_IsFiniteOp : Moe_ElementwiseOp<"is_finite"> {
  let summary = "true where the element is neither infinite nor NaN";
  let arguments = (ins Moe_FloatTensor:$input);
  let results = (outs Moe_BoolTensor:$result);
  let adjointStatus = "no: boolean result";
}

def Moe_GeluOp : Moe_FloatUnary<"gelu", "GELU", [Differentiable, Decomposable]> {
  let description = [{
    `erf`: x/2 (1 + erf(x / sqrt 2)). `tanh`: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    Hendrycks and Gimpel, arXiv 1606.08415.
  }];
  let arguments = (ins Moe_FloatTensor:$input, DefaultValuedAttr<Moe_GeluKind, "::moe::ir::GeluKind::Erf">:$approximate);
  let decompositionStatus = "yes";
}

class Moe_Binary<string mnemonic, string formula, list<Trait> traits = [Differentiable]>
    : Moe_ElementwiseOp<mnemonic, traits> {
  let summary = "elementwise " # formula;
  let arguments = (ins Moe_Tensor:$lhs, Moe_Tensor:$rhs);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
}

def Moe_AddOp : Moe_Binary<"add", "a + b"> {
  let precisionRole = "Follow";
}
def Moe_SubOp : Moe_Binary<"sub", "a - b"> {
  let precisionRole = "Follow";
}
def Moe_MulOp : Moe_Binary<"mul", "a b">;
def Moe_DivOp : Moe_Binary<"div", "a / b; integers round towards zero">;
def Moe_MaxOp : Moe_Binary<"max", "maximum; the gradient goes to a on ties">;
def Moe_MinOp : Moe_Binary<"min", "minimum; the gradient goes to a on ties">;
def Moe_PowOp : Moe_Binary<"pow", "a^b, floating point">;
def Moe_AndOp : Moe_Binary<"and", "conjunction of booleans, bitwise and of integers", []> {
  let adjointStatus = "no: integer result";
}
def Moe_OrOp : Moe_Binary<"or", "disjunction of booleans, bitwise or of integers", []> {
  let adjointStatus = "no: integer result";
}

def Moe_NotOp : Moe_ElementwiseOp<"not"> {
  let summary = "elementwise negation of booleans";
  let arguments = (ins Moe_BoolTensor:$input);
  let results = (outs Moe_BoolTensor:$result);
  let adjointStatus = "no: boolean result";
}

def Moe_AddNOp : Moe_ElementwiseOp<"add_n", [Differentiable]> {
  let summary = "sum of one or more tensors, added from left to right";
  let description = [{
    Differentiation joins the gradients of a value with several users by one `add_n`, so that fusion can move the sum
    into a producer.
  }];
  let arguments = (ins Variadic<Moe_FloatTensor>:$inputs);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_CompareOp : Moe_ElementwiseOp<"compare"> {
  let summary = "elementwise comparison; false where an operand is NaN, except for ne";
  let arguments = (ins Moe_ComparePredicate:$predicate, Moe_Tensor:$lhs, Moe_Tensor:$rhs);
  let results = (outs Moe_BoolTensor:$result);
  let adjointStatus = "no: boolean result";
}

def Moe_SelectOp : Moe_ElementwiseOp<"select", [Differentiable]> {
  let summary = "elementwise choice: condition ? a : b";
  let arguments = (ins Moe_BoolTensor:$condition, Moe_Tensor:$lhs, Moe_Tensor:$rhs);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_CastOp : Moe_ElementwiseOp<"cast", [Differentiable]> {
  let summary = "conversion to another element type";
  let description = [{
    Floating point to integer truncates, to boolean tests for non-zero; narrowing floats rounds to nearest even.
  }];
  let arguments = (ins Moe_Tensor:$input, TypeAttr:$to);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
}

def Moe_DropoutOp : Moe_PureOp<"dropout", [Moe_PlaceDependent, Differentiable, Decomposable]> {
  let summary = "zeroes elements with probability `rate` and scales the others by 1 / (1 - rate)";
  let description = [{
    `rng` holds (num_updates, micro-batch index). Element i is dropped iff `random_uniform` of the same seed and site is
    below `rate` at i; nothing is stored for the backward pass.
  }];
  let arguments = (ins Moe_FloatTensor:$input, Moe_IntTensor:$rng, F64Attr:$rate, I64Attr:$seed, I64Attr:$site);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "yes";
  let decompositionStatus = "yes";
  let cpuStatus = "yes";
}

#endif // MOE_ELEMENTWISE_OPS_TD
