// RUN: moe-opt %s --split-input-file --verify-diagnostics

// A norm of all gradients that counts the experts of one rank, or averages what ranks computed each for itself: ranks
// clip by different factors.
//   https://github.com/NVIDIA/Megatron-LM/pull/5916   https://github.com/deepspeedai/DeepSpeed/issues/8475
//   https://github.com/hpcaitech/ColossalAI/issues/2192   https://github.com/laekov/fastmoe/issues/29

#experts = #moe.layout<data = replicate, expert = shard(0)>
#summand = #moe.layout<data = replicate, expert = partial>
#whole = #moe.layout<data = replicate, expert = replicate>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  // The squares of a rank's experts are one summand of the norm's square, those of dense gradients all of theirs.
  func.func @added(%experts: tensor<2x15xf32, #experts>, %dense: tensor<f32, #whole>) -> tensor<f32, #whole> {
    %squares = moe.mul %experts, %experts : (tensor<2x15xf32, #experts>, tensor<2x15xf32, #experts>) -> tensor<2x15xf32, #experts>
    %mine = moe.reduce %squares {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<2x15xf32, #experts>) -> tensor<f32, #summand>
    // expected-note@+3 {{operand 0 by ranks, scalar}}
    // expected-error@+2 {{on mesh axis 'expert' operand 0 is a partial sum: 'tensor<f32, #moe.layout<data = replicate, expert = partial>>', and this operation is linear only in other sets of operands; reduce it over 'expert' first}}
    // expected-error@+1 {{failed to infer returned types}}
    %all = moe.add %mine, %dense : (tensor<f32, #summand>, tensor<f32, #whole>) -> tensor<f32, #whole>
    return %all : tensor<f32, #whole>
  }
}

// -----

#experts = #moe.layout<data = replicate, expert = shard(0)>
#summand = #moe.layout<data = replicate, expert = partial>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  // The norm of each rank, to be averaged: a root of a summand is no summand of the root.
  func.func @averaged(%experts: tensor<2x15xf32, #experts>) -> tensor<f32, #summand> {
    %squares = moe.mul %experts, %experts : (tensor<2x15xf32, #experts>, tensor<2x15xf32, #experts>) -> tensor<2x15xf32, #experts>
    %mine = moe.reduce %squares {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<2x15xf32, #experts>) -> tensor<f32, #summand>
    // expected-note@+2 {{operand 0 by ranks, scalar}}
    // expected-error@+1 {{on mesh axis 'expert' operand 0 is a partial sum: 'tensor<f32, #moe.layout<data = replicate, expert = partial>>', and this operation is not linear in it; reduce it over 'expert' first}}
    %root = moe.sqrt %mine : (tensor<f32, #summand>) -> tensor<f32, #summand>
    return %root : tensor<f32, #summand>
  }
}
