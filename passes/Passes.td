//===- Passes.td - The passes, one record each -------------------------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_PASSES_TD
#define MOE_PASSES_TD

include "mlir/Pass/PassBase.td"

class Moe_Pass<string name> : Pass<name, "::mlir::ModuleOp"> {
  let dependentDialects = ["::moe::ir::MoeDialect", "::mlir::func::FuncDialect"];
}

def Recompose : Moe_Pass<"recompose"> {
  let summary = "finds attention, norms and GELU in fine operations, and folds transposes into what reads them";
  let description = [{
    Patterns go by what is computed, not by how many operations it takes: masks are evaluated, conjunctions and sums of
    masks taken apart, dimensions followed through transposes, reshapes and repetitions (passes/recompose/). What cannot
    be proved equal stays as it is.

    ```mlir
    %t = moe.transpose %w {permutation = array<i64: 1, 0>} : (tensor<32x16xf32>) -> tensor<16x32xf32>
    %y = moe.dot %x, %t {…, rhs_contract = array<i64: 0>}
    // becomes
    %y = moe.dot %x, %w {…, rhs_contract = array<i64: 1>}
    ```
  }];
  let options = [Option<"coarse", "coarse", "bool", "true", "look for coarse operations">];
}

def RecomposeExperts : Moe_Pass<"recompose-experts"> {
  let summary = "finds layers of experts in exported graphs and computes them in rows sorted by expert";
  let description = [{
    What tells experts apart stays as the graph computes it (softmax, top-k, weights). Replaced are, wherever the values
    are the same for all inputs:

    * products with weights that are gathered for each choice, and what is computed between them: `moe.group_rows`,
      `moe.dispatch`, `moe.grouped_dot`, `moe.combine`;
    * the layer of every expert on all tokens, weighted and added up, where a token's weights are zero but for those that
      it chose: the same operations;
    * sums with one-hot tensors of tokens, experts and slots: `moe.dispatch` and `moe.combine` with tables of indices.

    ```mlir
    %w = moe.gather %weights, %index : (tensor<4x96x64xf32>, tensor<256xi64>) -> tensor<256x96x64xf32>
    %y = moe.dot %w, %x {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, …}
    // becomes
    %slot, %token, %block = moe.group_rows %expert {experts = 4, block = 16}
    %rows = moe.dispatch %x, %zero, %slot, %token
    %products = moe.grouped_dot %rows, %block, %weights {transposed}
    %y = moe.combine %products, %zero, %slot, %token
    ```

    Rows that many ranks will have parts of are made in as many tables, and parts of tables, from the start; what the
    program computes does not depend on that.
  }];
  let options = [Option<"groups", "groups", "int64_t", "1", "groups of tokens with a table of rows each">,
                 Option<"parts", "parts", "int64_t", "1", "parts of each table, each of some experts">];
}

def AssignPrecision : Moe_Pass<"assign-precision"> {
  let summary = "writes the compute type of the recipe into the module as casts";
  let description = [{
    Each operation says in its PrecisionRole what it does under a narrow compute type. Parameters, their gradients and
    the optimizer stay float32. fp16, which needs a loss scale, is a named error.
  }];
  let options = [Option<"compute", "compute", "std::string", "\"f32\"", "compute type: f32 or bf16">,
                 Option<"target", "target", "std::string", "\"\"", "machine, as cuda:sm_90; empty: one that computes every operation in every type">];
}

def Shard : Moe_Pass<"shard"> {
  let summary = "puts the module on a mesh: every rank computes everything";
  let description = [{
    Every layout is `replicate`: a correct program for any number of ranks, which the passes after it make parallel.

    ```mlir
    tensor<4x32xf32>  ->  tensor<4x32xf32, #moe.layout<data = replicate, expert = replicate>>
    ```
  }];
  let options = [ListOption<"axes", "axes", "std::string", "names of the mesh axes, minor last">,
                 ListOption<"sizes", "sizes", "int64_t", "sizes of the mesh axes">];
}

def InsertDataParallel : Moe_Pass<"insert-data-parallel"> {
  let summary = "gives each rank its part of the batch";
  let description = [{
    Inputs are split along their first dimension over all axes, and layouts follow through the programs (LayoutSweep.h):
    sums over the batch become `partial`, what needs all of it is gathered.

    ```mlir
    %sum = moe.reduce %x {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<8x4xf32, replicate>) -> tensor<f32, replicate>
    // becomes, on two ranks
    %sum = moe.reduce %x {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<4x4xf32, shard(0)>) -> tensor<f32, partial>
    ```
  }];
}

def InsertExpertParallel : Moe_Pass<"insert-expert-parallel"> {
  let summary = "gives each rank some of the experts, and exchanges rows around them";
  let description = [{
    Parameters that have the experts of `dispatch` as a dimension are split over the axis `expert`; those of single
    experts are stacked first. Where each rank has
    routing groups of its own, rows travel by `moe.all_to_all` to their experts and back. Where a group spans ranks, these
    have gathered its tokens; each makes the rows of its experts (axis `expert`; if there is one table of rows for all experts, its part of that) or of its slots
    (other axes) by `moe.own_slots`, and results are partial sums.
  }];
}

def InsertFsdp : Moe_Pass<"insert-fsdp"> {
  let summary = "splits state that all ranks would have, and gathers it where it is used";
  let description = [{
    `optimizer`: moments lie in parts over all ranks that have the same parameters; gradients are reduced to these parts
    and new parameters gathered (ZeRO-1, arXiv 1910.02054). `full`: parameters and gradients lie so too (ZeRO-3, FSDP).
    Parameters of a layer are one bucket, gathered at once; members are views of it.

    ```mlir
    %part = moe.read @bucket.1 : tensor<64xf32, shard(0)>
    %bucket = moe.all_gather %part {axes = ["data", "expert"], dim = 0 : i64}
    %w, %b = moe.bucket_split %bucket {offsets = array<i64: 0, 96>}
    ```
  }];
  let options = [Option<"mode", "mode", "std::string", "\"off\"", "off, optimizer or full">];
}

def Differentiate : Moe_Pass<"differentiate"> {
  let summary = "makes the program micro_step: forward and backward in one block";
  let description = [{
    Clones `@forward`, appends the adjoints of its operations in reverse order (`buildAdjoint`, seeded by the loss weight)
    and writes the gradient of each parameter to the state `NAME.grad`. Backward operations carry the location
    `"NAME.grad"` of the forward value they belong to. Loss, weight and metrics are added to the `sum.*` states.
  }];
}

def InsertUpdate : Moe_Pass<"insert-update"> {
  let summary = "makes the program update: norm, clipping, learning rate, optimizer, metrics, all on the device";
  let description = [{
    Parameters, gradients and moments are laid out in flat buckets, so that the optimizer runs over whole buckets.
    An update whose gradient norm is not finite changes nothing but the metrics.
  }];
}

def InsertEvaluation : Moe_Pass<"insert-evaluation"> {
  let summary = "makes the program eval accumulate its sums for the host";
}

def DecomposeCoarse : Moe_Pass<"decompose-coarse"> {
  let summary = "replaces coarse operations that have no library kernel by their decompositions";
}

def Simplify : Moe_Pass<"simplify"> {
  let summary = "folds algebraic identities, merges equal operations, drops dead ones";
  let options = [Option<"merge", "merge", "bool", "true",
                        "merge equal operations; off where a merged value would live from forward to backward">];
}

def FuseEpilogues : Moe_Pass<"fuse-epilogues"> {
  let summary = "gives matrix products the bias, the ReLU or the sum of gradients that follows, as moe.fused \"product\"";
}

def Fuse : Moe_Pass<"fuse"> {
  let summary = "groups operations that one generated kernel can compute into moe.fused";
}

def Recompute : Moe_Pass<"recompute"> {
  let summary = "activation checkpointing: computes values of the forward again in the backward";
  let description = [{
    `full` keeps of each layer what later layers read, as fairseq's --checkpoint-activations: everything else of it that
    the backward reads is computed again, by copies of the operations, right before the first operation that needs it.
    Layers are found by the numbers in names of parameters and values (passes/Layers.h); what belongs to no layer is
    kept. Under every policy, tensors that one pointwise kernel computes from states or from what is kept anyway, as
    weights in the compute type and activations of feed-forward layers, are computed again instead of kept as well, and
    what `insert-fsdp` gathers is gathered again (passes/CheapValues.h). Bits stay the same (passes/Rematerialize.h), and numbers of what was done are left in `moe.recompute`.

    ```mlir
    %h = moe.fused "product"(%x, %w) …               // forward
    %gx = moe.dot %gy, %h …                          // backward
    // becomes
    %h = moe.fused "product"(%x, %w) …
    %again = moe.fused "product"(%x, %w) {moe.recomputed} …
    %gx = moe.dot %gy, %again …
    ```
  }];
  let options = [
    Option<"policy", "policy", "std::string", "\"none\"", "none or full">,
    Option<"cheapBytes", "cheap-bytes", "int64_t", "65536", "smaller tensors are never computed again alone">,
    Option<"cheapSteps", "cheap-steps", "int64_t", "8", "operations for which keeping a tensor is no cost">,
    Option<"cheapFlops", "cheap-flops", "int64_t", "40", "FLOPs of the products that read it for each byte that a copy moves">
  ];
}

def OrderCollectives : Moe_Pass<"order-collectives"> {
  let summary = "gathers of parameters move down to their first reader, reductions of gradients up to their operands";
  let description = [{
    So that a gathered bucket lives only from its first use on, and whole gradients only until they have been reduced.
    What is computed from parameters alone (narrow copies) moves with the gather, what joins members before a reduction
    and adds up micro-batches after it with the reduction.

    ```mlir
    %g = moe.all_gather %part …              %a = …
    %a = …                         becomes   %g = moe.all_gather %part …
    %y = moe.dot %a, %g …                    %y = moe.dot %a, %g …
    ```
  }];
}

def Select : Moe_Pass<"select"> {
  let summary = "chooses, per operation, the kernel or library call and its scratch bytes";
  let options = [Option<"target", "target", "std::string", "\"cpu:native\"", "machine, as cpu:x86-64-v3">,
                 Option<"threads", "threads", "int64_t", "0", "threads per rank on a CPU; 0 = all cores of this machine">];
}

def Bufferize : Moe_Pass<"bufferize"> {
  let summary = "assigns every value a buffer; views, in-place results and donation share one";
}

def Schedule : Moe_Pass<"schedule"> {
  let summary = "states the order and the lanes of the operations; collectives become start and done";
  let description = [{
    Computation has lane 0, collectives that exchange data lane 1. There they run in the order of the program, each
    after the computation that stands before it. `moe.done` is where computation waits for the result; until then the
    memory that the collective works on, scratch included, is its own.

    ```mlir
    %y = moe.all_reduce %x {axes = ["data"]} : (tensor<4xf32>) -> tensor<4xf32>
    // becomes
    %s = moe.all_reduce %x {axes = ["data"], moe.lane = 1 : i64} : (tensor<4xf32>) -> tensor<4xf32>
    %y = moe.done %s, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    ```
  }];
}

def Overlap : Moe_Pass<"overlap"> {
  let summary = "starts collectives earlier and waits for them later, so that computation covers them";
  let description = [{
    Computation keeps its order. A collective is started up to where its operands are ready, no earlier than its
    estimated time asks for (runtime/plan/MachineEstimate.h), and ends before the first operation that needs its result or
    overwrites what it reads, or when it should be over. What is live at once grows by `slack` bytes at most.

    ```mlir
    %a = …                                            %s = moe.all_gather %part {moe.lane = 1}
    %s = moe.all_gather %part {moe.lane = 1}  becomes %a = …
    %g = moe.done %s, %part                           %g = moe.done %s, %part
    %y = moe.dot %a, %g                               %y = moe.dot %a, %g
    ```
  }];
  let options = [Option<"slack", "slack", "int64_t", "-1",
                        "bytes above the peak without overlap; negative: the largest result of a collective">];
}

def Place : Moe_Pass<"place"> {
  let summary = "gives every buffer a byte offset in its arena";
}

def VerifyPhase : Moe_Pass<"verify-phase"> {
  let summary = "checks what the module of a phase must look like";
  let options = [Option<"phase", "phase", "std::string", "\"import\"", "name of the phase that just ended">];
}

#endif // MOE_PASSES_TD
