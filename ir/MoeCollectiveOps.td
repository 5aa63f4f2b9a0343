//===- MoeCollectiveOps.td - Operations between the ranks of a mesh ----------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_COLLECTIVE_OPS_TD
#define MOE_COLLECTIVE_OPS_TD

include "MoeOpBase.td"

// An operation that changes how a tensor lies on the mesh axes `axes`, and nothing else: the whole tensor stays the
// same. Types on both sides say what it does; on other axes they agree. The ranks that differ in these axes alone form a
// group; their order in it is that of the mesh, its last axis fastest. A dimension may be split by several axes, the
// later one minor, and only its minor-most axes may be taken away or exchanged.
class Moe_CollectiveOp<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat(traits, [Pure, Differentiable, DeclareOpInterfaceMethods<Moe_CollectiveOpInterface>])> {
  let hasVerifier = 1;
  let extraDeclaration = "::moe::ir::Cost getCost();";
  string layoutStatus = "yes: changes the layout, as its summary says";
  let adjointStatus = "yes";
  let decompositionStatus = "no: an operation of the communicator";
  let cpuStatus = "yes";
  let precisionRole = "Follow";
}

def Moe_AllReduceOp : Moe_CollectiveOp<"all_reduce"> {
  let summary = "partial -> replicate: the sum over the ranks of the group, added in their order, everywhere";
  let arguments = (ins Moe_FloatTensor:$input, StrArrayAttr:$axes);
  let results = (outs Moe_FloatTensor:$result);
}

def Moe_AllGatherOp : Moe_CollectiveOp<"all_gather"> {
  let summary = "shard(dim) -> replicate: the parts of all ranks of the group, joined, everywhere";
  let arguments = (ins Moe_Tensor:$input, StrArrayAttr:$axes, I64Attr:$dim);
  let results = (outs Moe_Tensor:$result);
}

def Moe_ReduceScatterOp : Moe_CollectiveOp<"reduce_scatter"> {
  let summary = "partial -> shard(dim): each rank of the group receives its part of the sum";
  let arguments = (ins Moe_FloatTensor:$input, StrArrayAttr:$axes, I64Attr:$dim);
  let results = (outs Moe_FloatTensor:$result);
}

def Moe_AllToAllOp : Moe_CollectiveOp<"all_to_all"> {
  let summary = "shard(from) -> shard(to): each rank of the group sends each other one the part that it needs";
  let arguments = (ins Moe_Tensor:$input, StrArrayAttr:$axes, I64Attr:$from, I64Attr:$to);
  let results = (outs Moe_Tensor:$result);
}

def Moe_AllSliceOp : Moe_CollectiveOp<"all_slice"> {
  let summary = "replicate -> shard(dim): each rank of the group keeps its part; nothing is sent";
  let arguments = (ins Moe_Tensor:$input, StrArrayAttr:$axes, I64Attr:$dim);
  let results = (outs Moe_Tensor:$result);
}

def Moe_PadSliceOp : Moe_CollectiveOp<"pad_slice"> {
  let summary = "shard(dim) -> partial: each rank's part between zeros; nothing is sent";
  let arguments = (ins Moe_FloatTensor:$input, StrArrayAttr:$axes, I64Attr:$dim);
  let results = (outs Moe_FloatTensor:$result);
}

def Moe_AsPartialOp : Moe_CollectiveOp<"as_partial"> {
  let summary = "replicate -> partial: the first rank of the group keeps the value, others have zeros; nothing is sent";
  let arguments = (ins Moe_FloatTensor:$input, StrArrayAttr:$axes);
  let results = (outs Moe_FloatTensor:$result);
}

def Moe_OwnSlotsOp : Moe_Op<"own_slots", [Pure, Decomposable, DeclareOpInterfaceMethods<Moe_CollectiveOpInterface>]> {
  let summary = "cuts what `route` says so that each rank of an axis has a part of the rows of experts";
  let description = [{
    The rows [E,G,C,M] of experts are split over `axis` along dimension `dim`: 0 (each rank has some experts) or 2 (each
    rank has some slots of every expert), and `token` [E,G,C] likewise. `expert` and `slot` [G,S,K] become coordinates in
    the own part: a choice whose row lies elsewhere has slot -1, hence they are `partial`: each choice is somebody's.
  }];
  let arguments = (ins Moe_IntTensor:$expert, Moe_IntTensor:$slot, Moe_IntTensor:$token, StrAttr:$axis, I64Attr:$dim);
  let results = (outs Moe_IntTensor:$own_expert, Moe_IntTensor:$own_slot, Moe_IntTensor:$own_token);
  let hasVerifier = 1;
  string layoutStatus = "yes: expert and slot become partial, token is split";
  let adjointStatus = "no: integer results";
  let decompositionStatus = "yes: comparisons with the first row of the part";
  let cpuStatus = "yes";
}

//===----------------------------------------------------------------------------------------------------------------===//
// Buckets: many tensors in one, so that one collective moves them all
//===----------------------------------------------------------------------------------------------------------------===//

def Moe_BucketSplitOp : Moe_Op<"bucket_split", [Pure, Differentiable]> {
  let summary = "the members of a bucket";
  let description = [{
    bucket [N] -> members; member i has the elements from offsets[i] on, under its own shape. Members do not overlap.
  }];
  let arguments = (ins Moe_FloatTensor:$bucket, DenseI64ArrayAttr:$offsets);
  let results = (outs Variadic<Moe_FloatTensor>:$members);
  let hasVerifier = 1;
  let extraDeclaration = "::moe::ir::BufferUse getBufferUse();";
  string layoutStatus = "yes: whole";
  let adjointStatus = "yes";
  let cpuStatus = "yes";
}

def Moe_BucketJoinOp : Moe_Op<"bucket_join", [Pure, Differentiable]> {
  let summary = "the bucket of members, zeros between them";
  let arguments = (ins Variadic<Moe_FloatTensor>:$members, DenseI64ArrayAttr:$offsets);
  let results = (outs Moe_FloatTensor:$bucket);
  let hasVerifier = 1;
  string layoutStatus = "yes: whole";
  let adjointStatus = "yes";
  let cpuStatus = "yes";
}

//===----------------------------------------------------------------------------------------------------------------===//
// Start and done
//===----------------------------------------------------------------------------------------------------------------===//

// From `schedule` on a collective that exchanges data is only started where it stands. It runs in a lane of its own.
def Moe_DoneOp : Moe_Op<"done", [Pure]> {
  let summary = "the result of a collective that was started earlier; computation waits here until it has ended";
  let description = [{
    `started` is the result of the collective, which nobody else reads; `held` are its operands. The memory of all of
    them, and the scratch that the attribute `moe.scratch` names, belongs to the collective until here.

    ```mlir
    %s = moe.all_gather %part {axes = ["data"], dim = 0 : i64, moe.lane = 1 : i64} : (tensor<4xf32>) -> tensor<8xf32>
    // computation that does not read the bucket
    %bucket = moe.done %s, %part : (tensor<8xf32>, tensor<4xf32>) -> tensor<8xf32>
    ```
  }];
  let arguments = (ins Moe_Tensor:$started, Variadic<Moe_Tensor>:$held);
  let results = (outs Moe_Tensor:$result);
  let hasVerifier = 1;
  let extraDeclaration = "::moe::ir::BufferUse getBufferUse(); ::moe::ir::Cost getCost() { return {}; }";
  string layoutStatus = "yes: whole";
  string adjointStatus = "no: made after differentiation";
  string cpuStatus = "yes";
  string cudaStatus = "yes: an event";
}

#endif // MOE_COLLECTIVE_OPS_TD
