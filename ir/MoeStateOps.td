//===- MoeStateOps.td - State, programs and regions --------------------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_STATE_OPS_TD
#define MOE_STATE_OPS_TD

include "MoeOpBase.td"
include "mlir/IR/SymbolInterfaces.td"

def Moe_StateOp : Op<Moe_Dialect, "state", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a named tensor that survives between programs";
  let description = [{
    `initial` says how the first value comes about: a number (constant), or a dictionary {normal = [mean, stddev]},
    {uniform = [low, high]}, {file = "location", offset = i64, bytes = i64, stored = type} or {data = dense}; optional
    `zero_rows = [rows of dimension 0]`. `bucket` and `offset` (in elements) place the tensor inside a flat state, so that
    the optimizer runs over whole buckets; `of` names the parameter that a gradient or moment belongs to. `members` are
    {name, initial} of the tensors that a parameter stacks along dimension 0 (experts with parameters of their own): the
    world outside, and files, know these and not the stack.

    ```mlir
    moe.state @"decoder.layer_norm.weight" : tensor<192xf32> {kind = 0 : i32, initial = 1.0 : f64}
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Moe_Tensor>:$type, Moe_StateKind:$kind, OptionalAttr<AnyAttr>:$initial,
                       OptionalAttr<FlatSymbolRefAttr>:$of, OptionalAttr<FlatSymbolRefAttr>:$bucket,
                       OptionalAttr<I64Attr>:$offset, UnitAttr:$checkpointed, OptionalAttr<ArrayAttr>:$members);
  let assemblyFormat = "$kind $sym_name `:` $type attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() { return ::llvm::cast<::mlir::RankedTensorType>(getType()); }
  }];
}

def Moe_ReadOp : Moe_Op<"read", [MemoryEffects<[MemRead]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "the value of a state tensor at this point of the program";
  let arguments = (ins FlatSymbolRefAttr:$state);
  let results = (outs Moe_Tensor:$result);
  let assemblyFormat = "$state attr-dict `:` type($result)";
  let extraDeclaration = "::moe::ir::BufferUse getBufferUse() { return {::moe::ir::BufferUse::Kind::Read, {}}; }";
  let adjointStatus = "no: the root of differentiation";
  let cpuStatus = "yes";
}

def Moe_WriteOp : Moe_Op<"write", [MemoryEffects<[MemWrite]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "replaces the value of a state tensor";
  let arguments = (ins FlatSymbolRefAttr:$state, Moe_Tensor:$value);
  let assemblyFormat = "$state `,` $value attr-dict `:` type($value)";
  let extraDeclaration = "::moe::ir::BufferUse getBufferUse() { return {::moe::ir::BufferUse::Kind::Write, {}}; }";
  let adjointStatus = "no: no results";
  let cpuStatus = "yes";
}

def Moe_FusedOp : Moe_Op<"fused", [IsolatedFromAbove, SingleBlock, RecursiveMemoryEffects]> {
  let summary = "operations that one generated kernel computes";
  let description = [{
    The body holds operations of this dialect on whole tensors; `emitter` names the loop structure that computes them
    without storing what is not yielded. Emitters derive indexing maps from the body.
  }];
  let arguments = (ins Variadic<Moe_Tensor>:$inputs, StrAttr:$emitter);
  let results = (outs Variadic<Moe_Tensor>:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$emitter `(` $inputs `)` attr-dict `:` functional-type($inputs, $outputs) $body";
  let hasVerifier = 1;
  let extraDeclaration = "::moe::ir::Cost getCost();";
  let adjointStatus = "no: made after differentiation";
  let decompositionStatus = "no: its body is the decomposition";
  let cpuStatus = "yes";
}

def Moe_YieldOp : Op<Moe_Dialect, "yield", [Pure, Terminator, HasParent<"FusedOp">]> {
  let summary = "results of a fused region";
  let arguments = (ins Variadic<Moe_Tensor>:$values);
  let assemblyFormat = "$values attr-dict `:` type($values)";
}

#endif // MOE_STATE_OPS_TD
