// RUN: moe-opt %s --verify-diagnostics

// Gradients of experts reduced over the ranks of dense data parallelism instead of those that have the same experts:
// gradients of different experts are added up.
//   https://github.com/NVIDIA/Megatron-LM/pull/1622   https://github.com/NVIDIA/Megatron-LM/pull/5916

#grad = #moe.layout<data = partial, expert = shard(0)>
#mixed = #moe.layout<data = partial, expert = replicate>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  func.func @update(%grad: tensor<2x3x5xf32, #grad>) -> tensor<2x3x5xf32, #mixed> {
    // expected-note@+3 {{its result by ranks, 2x3x5}}
    // expected-note@+2 {{its operand by ranks, 4x3x5}}
    // expected-error@+1 {{on mesh axis 'expert' makes replicate of partial, but its types say 'tensor<2x3x5xf32, #moe.layout<data = partial, expert = shard(0)>>' and 'tensor<2x3x5xf32, #moe.layout<data = partial, expert = replicate>>'}}
    %sum = moe.all_reduce %grad {axes = ["expert"]} : (tensor<2x3x5xf32, #grad>) -> tensor<2x3x5xf32, #mixed>
    return %sum : tensor<2x3x5xf32, #mixed>
  }
}
