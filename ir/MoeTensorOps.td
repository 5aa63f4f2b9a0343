//===- MoeTensorOps.td - Tensor algebra --------------------------------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_TENSOR_OPS_TD
#define MOE_TENSOR_OPS_TD

include "MoeOpBase.td"

def Moe_ConstantOp : Moe_ShapedOp<"constant", [ConstantLike]> {
  let summary = "a tensor known at compile time";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Moe_Tensor:$result);
  let extraDeclaration = "void localize();";
  let hasFolder = 1;
  let adjointStatus = "no: no operands";
  let cpuStatus = "yes";
}

def Moe_IotaOp : Moe_ShapedOp<"iota", [Moe_PlaceDependent]> {
  let summary = "element value = its index along dimension `dim` of the whole tensor";
  let arguments = (ins I64Attr:$dim);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "no: no operands";
  let cpuStatus = "yes";
}

def Moe_RandomUniformOp : Moe_ShapedOp<"random_uniform", [Moe_PlaceDependent]> {
  let summary = "uniform numbers in [0, 1) keyed by seed, update, site and global element index";
  let description = [{
    Philox4x32-10 (Salmon et al., SC 2011). With g = micro-batch * number of elements + linear index, the counter is
    (low 32 bits of g, high 32 bits of g, low 32 bits of num_updates, 0), the key the two halves of
    splitmix64-finalise(seed + 0x9E3779B97F4A7C15 * site), and the number (word0 >> 8) * 2^-24.
    `rng` is a tensor<2xi64> with (num_updates, micro-batch index).
  }];
  let arguments = (ins Moe_IntTensor:$rng, I64Attr:$seed, I64Attr:$site);
  let results = (outs Moe_FloatTensor:$result);
  let adjointStatus = "no: does not depend on a differentiable value";
  let cpuStatus = "yes";
}

def Moe_BroadcastOp : Moe_ShapedOp<"broadcast", [Differentiable]> {
  let summary = "repeats a tensor along new dimensions";
  let description = [{
    Dimension i of the operand becomes dimension `dims[i]` of the result (strictly increasing, equal sizes); the operand
    is repeated along all others.

    ```mlir
    %1 = moe.broadcast %0 {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<4x8xf32>
    ```
  }];
  let arguments = (ins Moe_Tensor:$input, DenseI64ArrayAttr:$dims);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_ReshapeOp : Moe_ShapedOp<"reshape", [Differentiable]> {
  let summary = "the same elements in row-major order under another shape";
  let extraDeclaration = "::moe::ir::BufferUse getBufferUse() { return {::moe::ir::BufferUse::Kind::View, {}}; }";
  let arguments = (ins Moe_Tensor:$input);
  let results = (outs Moe_Tensor:$result);
  let hasFolder = 1;
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_TransposeOp : Moe_PureOp<"transpose", [Differentiable]> {
  let summary = "permutes dimensions: dimension i of the result is dimension permutation[i] of the operand";
  let arguments = (ins Moe_Tensor:$input, DenseI64ArrayAttr:$permutation);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_SliceOp : Moe_PureOp<"slice", [Differentiable]> {
  let summary = "elements starts[d], starts[d] + strides[d], … below limits[d] of each dimension d";
  let arguments = (ins Moe_Tensor:$input, DenseI64ArrayAttr:$starts, DenseI64ArrayAttr:$limits, DenseI64ArrayAttr:$strides);
  let results = (outs Moe_Tensor:$result);
  let extraDeclaration = "void localize();";
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_PadOp : Moe_PureOp<"pad", [Differentiable]> {
  let summary = "surrounds and interleaves with zeros: the adjoint of slice";
  let description = [{`low[d]` zeros before, `high[d]` after, `interior[d]` between neighbours of dimension d; none negative.}];
  let arguments = (ins Moe_Tensor:$input, DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high, DenseI64ArrayAttr:$interior);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_ConcatOp : Moe_PureOp<"concat", [Differentiable]> {
  let summary = "joins tensors along dimension `dim`";
  let arguments = (ins Variadic<Moe_Tensor>:$inputs, I64Attr:$dim);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_ReduceOp : Moe_PureOp<"reduce", [Differentiable]> {
  let summary = "combines the elements along `dims`, which vanish from the shape";
  let description = [{
    The gradient of max and min goes to every element equal to the result, shared evenly among them.
  }];
  let arguments = (ins Moe_Tensor:$input, Moe_ReduceKind:$kind, DenseI64ArrayAttr:$dims);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_CumsumOp : Moe_PureOp<"cumsum", [Differentiable, Decomposable]> {
  let summary = "running sum along dimension `dim`";
  let description = [{`exclusive` leaves out the element itself; `reverse` runs from the end.}];
  let arguments = (ins Moe_Tensor:$input, I64Attr:$dim, UnitAttr:$exclusive, UnitAttr:$reverse);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let decompositionStatus = "yes: masked sums in chunks, and a running sum of those of whole chunks";
  let cpuStatus = "yes";
}

def Moe_SortOp : Moe_PureOp<"sort", [DifferentiableReads, Decomposable]> {
  let summary = "stable descending order along the last dimension: values and indices (i32)";
  let description = [{NaN sorts last. `top-k` is a slice of the results.}];
  let arguments = (ins Moe_Tensor:$input);
  let results = (outs Moe_Tensor:$values, Moe_IntTensor:$indices);
  let adjointStatus = "yes: a masked sum, quadratic in the length";
  let decompositionStatus = "yes: places by counting, quadratic in the length";
  let cpuStatus = "yes";
}

def Moe_DotOp : Moe_PureOp<"dot", [Differentiable]> {
  let summary = "general matrix product";
  let description = [{
    Sums over pairs of contracted dimensions; batch dimensions correspond. The result has the batch dimensions, then the
    free dimensions of lhs, then those of rhs, each in their order. float32 accumulation.

    ```mlir
    // y[b,t,n] = sum_k x[b,t,k] w[n,k]
    %y = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>,
                         rhs_contract = array<i64: 1>} : (tensor<2x8x16xf32>, tensor<32x16xf32>) -> tensor<2x8x32xf32>
    ```
  }];
  let arguments = (ins Moe_FloatTensor:$lhs, Moe_FloatTensor:$rhs, DenseI64ArrayAttr:$lhs_batch, DenseI64ArrayAttr:$rhs_batch,
                       DenseI64ArrayAttr:$lhs_contract, DenseI64ArrayAttr:$rhs_contract);
  let results = (outs Moe_FloatTensor:$result);
  let extraDeclaration = [{
    ::moe::ir::Cost getCost();
    /// Dimensions of an operand that are neither batch nor contracted, in order.
    ::llvm::SmallVector<int64_t> lhsFree();
    ::llvm::SmallVector<int64_t> rhsFree();
  }];
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Compute";
}

def Moe_GatherOp : Moe_PureOp<"gather", [Differentiable]> {
  let summary = "rows of a table: result[i…, :] = table[index[i…], :]; a negative index gives a row of zeros";
  let arguments = (ins Moe_Tensor:$table, Moe_IntTensor:$index);
  let results = (outs Moe_Tensor:$result);
  let adjointStatus = "yes";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_ScatterAddOp : Moe_ShapedOp<"scatter_add", [Differentiable]> {
  let summary = "init (or zeros) with rows added at index, in order of the index tensor; negative indices are skipped";
  let arguments = (ins Moe_IntTensor:$index, Moe_FloatTensor:$rows, Optional<Moe_FloatTensor>:$init);
  let results = (outs Moe_FloatTensor:$result);
  let extraDeclaration = [{
    ::moe::ir::BufferUse getBufferUse() {
      ::moe::ir::BufferUse use;
      if (getInit()) {
        use.inPlace.push_back({0, 2});
        use.mustBeInPlace = true;
      }
      return use;
    }
  }];
  let adjointStatus = "yes";
  let cpuStatus = "yes";
}

#endif // MOE_TENSOR_OPS_TD
