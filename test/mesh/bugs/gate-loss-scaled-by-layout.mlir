// RUN: moe-opt %s --split-input-file --verify-diagnostics

// A gate loss whose weight depends on how many ranks there are: it multiplies means that each rank made of its own tokens,
// or every rank adds the same loss and the reduction of gradients counts it once per rank.
//   https://github.com/NVIDIA/Megatron-LM/pull/3768   https://github.com/NVIDIA/Megatron-LM/pull/5047
//   https://github.com/NVIDIA-NeMo/Automodel/pull/1412

#tokens = #moe.layout<data = shard(0)>
#sum = #moe.layout<data = partial>
module attributes {moe.mesh = #moe.mesh<data = 2>} {
  func.func @product_of_means(%gates: tensor<8x4xf32, #tokens>, %chosen: tensor<8x4xf32, #tokens>) -> tensor<4xf32, #sum> {
    %me = moe.reduce %gates {kind = 0 : i32, dims = array<i64: 0>} : (tensor<8x4xf32, #tokens>) -> tensor<4xf32, #sum>
    %ce = moe.reduce %chosen {kind = 0 : i32, dims = array<i64: 0>} : (tensor<8x4xf32, #tokens>) -> tensor<4xf32, #sum>
    // expected-note@+3 {{operand 0 by ranks, 4}}
    // expected-error@+2 {{on mesh axis 'data' operand 0 is a partial sum: 'tensor<4xf32, #moe.layout<data = partial>>', and this operation is linear only in other sets of operands; reduce it over 'data' first}}
    // expected-error@+1 {{failed to infer returned types}}
    %loss = moe.mul %me, %ce : (tensor<4xf32, #sum>, tensor<4xf32, #sum>) -> tensor<4xf32, #sum>
    return %loss : tensor<4xf32, #sum>
  }
}

// -----

#sum = #moe.layout<data = partial>
#whole = #moe.layout<data = replicate>
module attributes {moe.mesh = #moe.mesh<data = 2>} {
  func.func @once_per_rank(%loss: tensor<f32, #sum>, %gate_loss: tensor<f32, #whole>) -> tensor<f32, #sum> {
    // expected-note@+3 {{operand 0 by ranks, scalar}}
    // expected-error@+2 {{on mesh axis 'data' operand 0 is a partial sum: 'tensor<f32, #moe.layout<data = partial>>', and this operation is linear only in other sets of operands; reduce it over 'data' first}}
    // expected-error@+1 {{failed to infer returned types}}
    %total = moe.add %loss, %gate_loss : (tensor<f32, #sum>, tensor<f32, #whole>) -> tensor<f32, #sum>
    return %total : tensor<f32, #sum>
  }
}
