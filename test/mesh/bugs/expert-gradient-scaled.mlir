// RUN: moe-opt %s --split-input-file --verify-diagnostics

// Gradients of experts that come out as many times too large as there are expert-parallel ranks: these ranks' tokens are in
// them already, by the all-to-all, and are counted again by the reduction or by the divisor of another group.
//   https://github.com/deepspeedai/DeepSpeed/issues/6545   https://github.com/deepspeedai/DeepSpeed/issues/5618
//   https://github.com/pytorch/pytorch/issues/160285
// Experts are split over `expert`: there is nothing to be summed there, and a sum is not summed twice.

#experts = #moe.layout<data = partial, expert = shard(0)>
#whole = #moe.layout<data = replicate, expert = replicate>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  func.func @all_ranks(%grad: tensor<2x3x5xf32, #experts>) -> tensor<2x3x5xf32, #whole> {
    // expected-note@+3 {{its result by ranks, 2x3x5}}
    // expected-note@+2 {{its operand by ranks, 4x3x5}}
    // expected-error@+1 {{on mesh axis 'expert' makes replicate of partial, but its types say 'tensor<2x3x5xf32, #moe.layout<data = partial, expert = shard(0)>>' and 'tensor<2x3x5xf32, #moe.layout<data = replicate, expert = replicate>>'}}
    %sum = moe.all_reduce %grad {axes = ["data", "expert"]} : (tensor<2x3x5xf32, #experts>) -> tensor<2x3x5xf32, #whole>
    return %sum : tensor<2x3x5xf32, #whole>
  }
}

// -----

#summand = #moe.layout<data = partial, expert = shard(0)>
#experts = #moe.layout<data = replicate, expert = shard(0)>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  func.func @twice(%grad: tensor<2x3x5xf32, #summand>) -> tensor<2x3x5xf32, #experts> {
    %sum = moe.all_reduce %grad {axes = ["data"], moe.inserted_by = "insert-update"} : (tensor<2x3x5xf32, #summand>) -> tensor<2x3x5xf32, #experts>
    // expected-note@+4 {{its result by ranks, 4x3x5}}
    // expected-note@+3 {{its operand by ranks, 4x3x5}}
    // expected-error@+2 {{on mesh axis 'data' makes replicate of partial, but its types say}}
    // expected-note@+1 {{its operand is replicate (from insert-update)}}
    %again = moe.all_reduce %sum {axes = ["data"]} : (tensor<2x3x5xf32, #experts>) -> tensor<2x3x5xf32, #experts>
    return %again : tensor<2x3x5xf32, #experts>
  }
}
